"""The eight rules of the transport, against a real sshd."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

import reconciler.nodes
from reconciler.errors import (
    AccessDenied,
    DeadlinePassed,
    HostKeyMismatch,
    NodeLost,
    NodeUnreachable,
    NotEnrolled,
)
from reconciler.nodes import keys
from reconciler.nodes.connection import Connection, Keepalive
from reconciler.nodes.output import OUTPUT_LIMIT

from .loopback import Loopback, free_port, running, until


async def test_a_command_gives_its_output_and_its_status(connection: Connection) -> None:
    done = await connection.run("cat; echo warn >&2; exit 3", stdin=b"in\n", within=10)
    assert (done.exit_status, done.stdout.data, done.stderr.data) == (3, b"in\n", b"warn\n")


async def test_a_command_ended_by_a_signal_is_no_success(connection: Connection) -> None:
    done = await connection.run("kill -KILL $$", within=10)
    assert (done.exit_status, done.signal) == (-1, "KILL")


@pytest.mark.parametrize("shield", ["", "trap '' TERM; "], ids=["plain", "deaf to TERM"])
async def test_cancelling_leaves_no_remote_process(connection: Connection, shield: str) -> None:
    mark = str(uuid.uuid4())
    command = f"{shield}while :; do sleep 0.2; done; : {mark}"
    call = asyncio.create_task(connection.run(command, within=60))
    await until(lambda: running(mark))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not running(mark))
    assert (await connection.run("echo on", within=10)).stdout.data == b"on\n"


async def test_a_deadline_leaves_no_remote_process(connection: Connection) -> None:
    mark = str(uuid.uuid4())
    with pytest.raises(DeadlinePassed, match="web1"):
        await connection.run(f"while :; do sleep 0.2; done; : {mark}", within=1)
    await until(lambda: not running(mark))


async def test_closing_right_after_a_cancel_leaves_no_remote_process(sshd: Loopback) -> None:
    mark = str(uuid.uuid4())
    connection = await Connection.open(sshd.target)
    call = asyncio.create_task(connection.run(f"while :; do sleep 0.2; done; : {mark}", within=60))
    await until(lambda: running(mark))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await connection.close()
    await until(lambda: not running(mark))


async def test_a_lost_connection_is_never_a_success(sshd: Loopback) -> None:
    connection = await Connection.open(sshd.target)
    call = asyncio.create_task(connection.run("echo begun; sleep 5", within=30))
    await until(lambda: running("sleep 5"))
    sshd.kill_sessions()
    with pytest.raises(NodeLost) as caught:
        await call
    assert caught.value.server == "web1"
    assert caught.value.reaction == "retry"
    assert caught.value.hint
    assert connection.closed
    with pytest.raises(NodeLost):
        await connection.run("true", within=10)
    await connection.close()


async def test_output_that_is_not_utf8_keeps_the_connection(connection: Connection) -> None:
    first, second = await asyncio.gather(
        connection.run("sleep 0.5; echo other", within=10), connection.run(r"printf '\377\376'", within=10)
    )
    assert second.stdout.data == b"\xff\xfe"
    assert second.stdout.text == "\ufffd\ufffd"
    assert first.stdout.data == b"other\n"


async def test_a_frozen_peer_is_noticed(sshd: Loopback) -> None:
    connection = await Connection.open(sshd.target, keepalive=Keepalive(interval=0.3, count=2))
    frozen = sshd.sessions()
    call = asyncio.create_task(connection.run("sleep 30", within=60))
    await until(lambda: running("sleep 30"))
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(NodeLost):
                await call
        await connection.close()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)


async def test_more_commands_than_sshd_has_sessions_all_succeed(connection: Connection) -> None:
    done = await asyncio.gather(*(connection.run(f"sleep 0.1; echo {n}", within=60) for n in range(15)))
    assert [d.stdout.data for d in done] == [b"%d\n" % n for n in range(15)]


async def test_output_is_kept_within_its_limit_at_both_ends(connection: Connection) -> None:
    done = await connection.run("echo first; yes 0123456789 | head -c 5000000; echo last", within=60)
    kept = done.stdout
    assert len(kept.head) + len(kept.tail) == OUTPUT_LIMIT
    assert kept.omitted == 5000000 + 6 + 5 - OUTPUT_LIMIT
    assert kept.data.startswith(b"first\n")
    assert kept.data.endswith(b"last\n")
    assert b"bytes omitted" in kept.data


async def test_a_command_need_not_read_its_input(connection: Connection) -> None:
    assert (await connection.run("exit 4", stdin=b"x" * 8_000_000, within=20)).exit_status == 4


async def test_another_host_key_names_both_fingerprints(sshd: Loopback) -> None:
    other = keys.generate()
    with pytest.raises(HostKeyMismatch) as caught:
        await Connection.open(replace(sshd.target, host_keys=(other.public,)))
    assert keys.fingerprint(sshd.host.public) in caught.value.message
    assert keys.fingerprint(other.public) in caught.value.message


async def test_a_host_without_a_key_of_the_pinned_kind_is_a_mismatch(sshd: Loopback) -> None:
    import asyncssh

    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_public_key().decode()
    with pytest.raises(HostKeyMismatch, match=r"SHA256:"):
        await Connection.open(replace(sshd.target, host_keys=(rsa,)))


async def test_without_a_pinned_host_key_nothing_is_trusted(sshd: Loopback) -> None:
    with pytest.raises(NotEnrolled):
        await Connection.open(replace(sshd.target, host_keys=()))


async def test_one_pinned_key_of_several_is_enough(sshd: Loopback) -> None:
    pinned = (keys.generate().public, sshd.host.public)
    async with await Connection.open(replace(sshd.target, host_keys=pinned)) as connection:
        assert (await connection.run("true", within=10)).exit_status == 0


async def test_a_refused_key_is_access_denied(sshd: Loopback) -> None:
    with pytest.raises(AccessDenied, match="user root"):
        await Connection.open(replace(sshd.target, private_key=keys.generate().private))


async def test_a_later_identity_is_tried_as_well(sshd: Loopback) -> None:
    target = replace(sshd.target, private_key=keys.generate().private)
    async with await Connection.open(target, identities=[sshd.client.private]) as connection:
        assert (await connection.run("true", within=10)).exit_status == 0


async def test_a_refused_port_is_unreachable(sshd: Loopback) -> None:
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1 port"):
        await Connection.open(replace(sshd.target, port=free_port()))


async def test_a_peer_that_says_nothing_is_unreachable_in_time(sshd: Loopback) -> None:
    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NodeUnreachable, match=r"within 0\.5 s"):
            await Connection.open(replace(sshd.target, port=port, connect_timeout=0.5))
        await asyncio.wait_for(left.wait(), 10)


async def test_a_peer_that_is_no_ssh_server_is_unreachable(sshd: Loopback) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NodeUnreachable):
            await Connection.open(replace(sshd.target, port=port))


async def test_no_error_shows_the_private_key(sshd: Loopback) -> None:
    body = sshd.client.private.reveal().splitlines()[1]
    with pytest.raises(NodeUnreachable) as caught:
        await Connection.open(replace(sshd.target, port=free_port()))
    assert body not in repr(caught.value) + repr(sshd.target)


def test_host_keys_are_checked_everywhere() -> None:
    for path in Path(reconciler.nodes.__path__[0]).glob("*.py"):
        text = "".join(path.read_text().split())
        assert "known_hosts=None" not in text, path
        assert "known_hosts':None" not in text, path
