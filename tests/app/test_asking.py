"""How verbs reach the daemon: the nudge, who asks, whether anybody is there, the answer."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.app import asking, nudges
from reconciler.store import Store
from reconciler.store.queries import leases, requests
from tests.app.ear import listening
from tests.store.conftest import box, path, store, template

__all__ = ["box", "path", "store", "template"]  # fixtures


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose path is longer than a socket's address may be."""
    deep = tmp_path / ("x" * 100) / "state"
    deep.mkdir(parents=True)
    return deep


def test_a_nudge_reaches_the_daemon(state: Path) -> None:
    with listening(state) as ear:
        assert asking.poke(state)
        assert ear.recv(100) == b'{"verb":"look"}'
        ear.settimeout(0)
        with pytest.raises(BlockingIOError):
            ear.recv(100)


async def test_a_nudge_reaches_what_the_daemon_listens_with(state: Path) -> None:
    heard = asyncio.Event()
    with nudges.listening(state, heard.set):
        assert asking.poke(state)
        await asyncio.wait_for(heard.wait(), 10)
    assert not asking.poke(state)


def test_a_socket_that_a_killed_daemon_left_is_no_fault(state: Path) -> None:
    with listening(state):
        (state / asking.SOCKET).rename(state / "kept")
    (state / "kept").rename(state / asking.SOCKET)
    assert not asking.poke(state)


def test_a_daemon_that_does_not_listen_just_now_is_no_fault(state: Path) -> None:
    assert not asking.poke(state)
    assert not asking.poke(state / "nowhere")
    with listening(state):
        assert all(asking.poke(state) for _ in range(2000))  # its queue is full long before


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
    with listening(state) as ear:
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
