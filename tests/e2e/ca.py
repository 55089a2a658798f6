"""A CA that speaks ACME on the lab's network, with a DNS of its own: Debian's pebble and pebble-challtestsrv."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from .harness import wait_for

Key = ec.EllipticCurvePrivateKey


def pem(key: Key) -> str:
    """A private key without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def issue(
    names: tuple[str, ...],
    *,
    days: int = 365,
    by: tuple[x509.Certificate, Key] | None = None,
    ca: bool = False,
) -> tuple[x509.Certificate, Key]:
    """A certificate for names (or addresses) and its key, self-signed or issued `by` another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    listed = [
        x509.IPAddress(ipaddress.ip_address(n)) if n.replace(".", "").isdecimal() else x509.DNSName(n)
        for n in names
    ]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[0].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(listed), critical=False)
        .sign(by[1] if by else key, hashes.SHA256())
    )
    return made, key


def text(certificate: x509.Certificate) -> str:
    """A certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM).decode()


@dataclass
class Ca:
    """A running CA. `trust` is the root of its own web server, not of what it issues."""

    address: str
    trust: str
    folder: Path

    @property
    def directory(self) -> str:
        """The URL that clients begin at."""
        return f"https://{self.address}:14000/dir"

    def resolve(self, name: str, address: str | None) -> None:
        """Have a name lead somewhere, or nowhere."""
        if address is None:
            self._tell("clear-a", {"host": name})
        else:
            self._tell("add-a", {"host": name, "addresses": [address]})

    def _tell(self, what: str, value: object) -> None:
        request = urllib.request.Request(
            f"http://{self.address}:8055/{what}", data=json.dumps(value).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def root(self) -> Path:
        """The root of what it issues, in a file."""
        path = self.folder / "issued-root.pem"
        if not path.exists():
            context = ssl.create_default_context(cadata=self.trust)
            with urllib.request.urlopen(
                f"https://{self.address}:15000/roots/0", timeout=10, context=context
            ) as answer:
                path.write_bytes(answer.read())
        return path


@contextmanager
def running(address: str, folder: Path) -> Iterator[Ca]:
    """A CA on an address of this network, as long as the block lasts."""
    folder.mkdir()
    authority = issue(("Lab CA",), ca=True)
    certificate, key = issue((address,), by=authority)
    (folder / "server.pem").write_text(text(certificate))
    (folder / "server.key").write_text(pem(key))
    settings = {
        "listenAddress": f"{address}:14000",
        "managementListenAddress": f"{address}:15000",
        "certificate": str(folder / "server.pem"),
        "privateKey": str(folder / "server.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "config.json").write_text(json.dumps({"pebble": settings}))
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    off = [f"-{name}01=" for name in ("http", "https", "tlsalpn")]
    names = ["pebble-challtestsrv", *off, f"-dns01={address}:8053", f"-management={address}:8055"]
    programs = (
        [*names, "-defaultIPv4=", "-defaultIPv6="],
        ["pebble", "-config", str(folder / "config.json"), "-dnsserver", f"{address}:8053"],
    )
    made = Ca(address, text(authority[0]), folder)
    with (folder / "log").open("wb") as log:
        started = [
            subprocess.Popen(argv, env={**os.environ, **quick}, stdout=log, stderr=log) for argv in programs
        ]
        try:
            wait_for(lambda: _answers(made), 30)
            yield made
        finally:
            for program in started:
                program.kill()
                program.wait()


def _answers(made: Ca) -> bool:
    try:
        made.root()
        made.resolve("nobody.test", None)
    except OSError:
        return False
    return True
