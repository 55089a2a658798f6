"""Web servers on loopback that answer as a test says, and certificates to show."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.loop.health import HealthTarget
from reconciler.nodes.answers import UnitState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """A server that is listening: where, and what it was asked."""

    address: str
    port: int
    requests: list[bytes] = field(default_factory=list)

    def target(self, domain: str = "shop.example.test", aliases: tuple[str, ...] = ()) -> HealthTarget:
        return HealthTarget(
            "Site", "shop", "web1", self.address, domain, aliases, http_port=self.port, https_port=self.port
        )


def answer(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> Handler:
    """Answers every request with this."""

    async def handle(_request: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return handle


@asynccontextmanager
async def web(
    handle: Handler, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Web]:
    """A server for the block. Connections that it still holds then are broken."""
    made = Web(address, 0)
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            made.requests.append(request)
            await handle(request, writer)
        writer.close()

    server = await asyncio.start_server(serve, address, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in one PEM file."""

    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


def certificate(
    folder: Path,
    names: Sequence[str],
    *,
    begin: datetime = NOON - timedelta(days=1),
    end: datetime = NOON + timedelta(days=90),
    issuer: Certificate | None = None,
    authority: bool = False,
) -> Certificate:
    """A certificate for these names, signed by itself or by `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    made = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    file = folder / f"{made.serial_number:x}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return Certificate(file, made, key)


class Played:
    """A Prober that gives what a test says, or raises it."""

    def __init__(
        self, states: Mapping[str, UnitState] | Exception | None = None, number: int | Exception = 0
    ) -> None:
        self.states = states if states is not None else {}
        self.number = number
        self.asked: list[tuple[str, object]] = []

    async def units(self, server: str, names: Sequence[str]) -> Mapping[str, UnitState]:
        self.asked.append((server, tuple(names)))
        if isinstance(self.states, Exception):
            raise self.states
        return self.states

    async def denials(self, server: str, since: datetime) -> int:
        self.asked.append((server, since))
        if isinstance(self.number, Exception):
            raise self.number
        return self.number


@contextmanager
def silent_port(says: bytes = b"") -> Iterator[int]:
    """A port that takes connections and never answers; it may say something to each at first."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as taken:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    taken.enter_context(connection)
                    connection.sendall(says)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
