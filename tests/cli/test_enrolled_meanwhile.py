"""What is changed outside of git is told to a daemon that runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from reconciler.app.reconciling import have_seen
from reconciler.store import Store
from reconciler.store.queries import leases, requests
from reconciler.store.state import create_state, open_state


def waiting(store: Store) -> list[tuple[str, str]]:
    return [(one.verb, one.subject) for one in store.read(requests.waiting)]


def test_a_running_daemon_is_asked_to_look_at_a_server_that_was_enrolled(tmp_path: Path) -> None:
    create_state(tmp_path / "state", {})
    with open_state(tmp_path / "state", {}) as store:
        have_seen(store, tmp_path / "state", "Server/web1")
        assert waiting(store) == [], "nobody would answer it"
        store.write(lambda tx: leases.acquire(tx, "daemon", "here:1:x", timedelta(minutes=1)))
        have_seen(store, tmp_path / "state", "Server/web1")
        assert waiting(store) == [("reconcile", "Server/web1")]
