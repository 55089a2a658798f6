"""How verbs reach the daemon: the nudge, who asks, whether anybody is there, the answer."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.app import asking
from reconciler.errors import SettingsFault
from reconciler.store import Store
from reconciler.store.queries import leases, requests
from tests.store.conftest import box, path, store, template

__all__ = ["box", "path", "store", "template"]  # fixtures


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose path is longer than a socket's address may be."""
    deep = tmp_path / ("x" * 100) / "state"
    deep.mkdir(parents=True)
    return deep


def test_a_nudge_reaches_the_daemon(state: Path) -> None:
    with asking.listening(state) as ear:
        assert asking.poke(state)
        assert ear.recv(100) == b'{"verb":"look"}'
        with pytest.raises(BlockingIOError):
            ear.recv(100)


def test_the_daemons_socket_is_its_owners_alone_and_goes_with_it(state: Path) -> None:
    with asking.listening(state):
        assert (state / asking.SOCKET).stat().st_mode & 0o777 == 0o600
    assert not (state / asking.SOCKET).exists()


def test_a_socket_that_a_killed_daemon_left_is_replaced(state: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        handle = os.open(state, os.O_PATH)
        left.bind(f"/proc/self/fd/{handle}/{asking.SOCKET}")
        os.close(handle)
    assert not asking.poke(state)
    with asking.listening(state) as ear:
        assert asking.poke(state)
        assert ear.recv(100)


def test_a_daemon_on_its_way_out_leaves_its_successors_socket(state: Path) -> None:
    with asking.listening(state):
        with asking.listening(state):
            pass
        assert not asking.poke(state)
    with asking.listening(state) as old:
        newer = asking.listening(state)
        with newer as ear:
            old.close()
            assert asking.poke(state)
            assert ear.recv(100)


def test_a_daemon_that_does_not_listen_just_now_is_no_fault(state: Path) -> None:
    assert not asking.poke(state)
    assert not asking.poke(state / "nowhere")
    with asking.listening(state):
        assert all(asking.poke(state) for _ in range(2000))  # its queue is full long before


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="nowhere"), asking.listening(tmp_path / "nowhere"):
        pass


def test_who_asks_is_who_called_sudo() -> None:
    assert asking.actor({"SUDO_USER": "ada"}) == "ada"
    assert asking.actor({"SUDO_USER": "ada\x1b[31m\n"}) == "ada\\x1b[31m\\n"
    assert asking.actor({"USER": "somebody-else"}) == asking.actor({})
    assert asking.actor({}) != ""


def hold(store: Store, seconds: float) -> None:
    store.write(lambda tx: leases.acquire(tx, asking.LEASE, "a daemon", timedelta(seconds=seconds)))


def test_a_daemon_runs_while_it_holds_its_lease(store: Store) -> None:
    assert not store.read(asking.running)
    hold(store, 60)
    assert store.read(asking.running)
    store.write(lambda tx: leases.release(tx, asking.LEASE, "a daemon"))
    assert not store.read(asking.running)


def test_what_is_told_is_committed_before_the_nudge(store: Store, state: Path) -> None:
    hold(store, 60)
    with asking.listening(state) as ear:
        ear.settimeout(10)
        seen: list[int] = []

        def daemon() -> None:
            ear.recv(100)
            seen.append(len(store.read(requests.waiting)))

        thread = threading.Thread(target=daemon)
        thread.start()
        _, running = asking.tell(
            store, state, lambda tx: requests.add(tx, "reconcile", "Server/web1", actor="ada")
        )
        thread.join(10)
    assert running
    assert seen == [1]


def test_the_answer_is_waited_for(store: Store, state: Path) -> None:
    first = store.write(lambda tx: requests.add(tx, "cancel", "Server/web1", actor="ada"))
    second = store.write(lambda tx: requests.add(tx, "cancel", "Server/web2", actor="ada"))
    store.write(lambda tx: requests.answer(tx, first.id, "done", "stopping"))
    threading.Timer(
        0.3, lambda: store.write(lambda tx: requests.answer(tx, second.id, "refused", "no"))
    ).start()
    found = asking.answers(store, [first, second], 30)
    assert [(one.outcome, one.message) for one in found] == [("done", "stopping"), ("refused", "no")]


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(store: Store) -> None:
    asked = store.write(lambda tx: requests.add(tx, "cancel", "Server/web1", actor="ada"))
    (found,) = asking.answers(store, [asked], 0.2)
    assert found.outcome is None
    assert found.created_at <= datetime.now(UTC)
