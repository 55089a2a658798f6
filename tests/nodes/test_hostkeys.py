"""Asking a node for its host keys."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from reconciler.errors import HostKeyMismatch, NodeUnreachable
from reconciler.nodes import hostkeys, keys

from . import loopback
from .loopback import Loopback, free_port


async def test_a_scan_gives_the_key_that_connections_are_pinned_to(sshd: Loopback) -> None:
    found = await hostkeys.scan("127.0.0.1", sshd.port)
    assert found == (keys.canonical(sshd.host.public),)


async def test_a_scan_gives_every_kind_best_first(sshd: Loopback, tmp_path: Path) -> None:
    lines = []
    for kind in ("rsa", "ecdsa"):
        path = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True, timeout=60)
        lines.append(f"HostKey {path}")
    server = loopback.start(tmp_path, *lines)
    try:
        found = await hostkeys.scan("127.0.0.1", server.port)
    finally:
        server.stop()
    assert [line.split()[0] for line in found] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    assert found[0] == keys.canonical(server.host.public)


async def test_a_closed_port_is_unreachable() -> None:
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1: cannot connect"):
        await hostkeys.scan("127.0.0.1", free_port())


async def test_silence_is_unreachable_in_time() -> None:
    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        with pytest.raises(NodeUnreachable, match=r"within 0\.3 s"):
            await hostkeys.scan("127.0.0.1", server.sockets[0].getsockname()[1], 0.3)
        await asyncio.wait_for(left.wait(), 10)


async def test_another_protocol_is_unreachable() -> None:
    left = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n" * 10)
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(NodeUnreachable):
            await hostkeys.scan("127.0.0.1", server.sockets[0].getsockname()[1], 5)
        await asyncio.wait_for(left.wait(), 10)


def test_a_pinned_key_that_cannot_be_read_is_told() -> None:
    with pytest.raises(HostKeyMismatch, match="web1: a pinned host key"):
        hostkeys.pinned("web1", ("ssh-ed25519 nonsense",))
