"""What `reconciler status` tells of resources: the most important message, and those that wait to be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.app.status import ResourceStatus, of_all
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.record import conditions
from reconciler.secrets.box import Box
from reconciler.store import Store, Tx

REVISION = "c" * 40
WEB1, SHOP = Key(Kind.SERVER, "web1"), Key(Kind.SITE, "shop")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.create(tmp_path / "state.sqlite", Box([b"k" * 32]))
    yield opened
    opened.close()


def only(store: Store) -> ResourceStatus:
    (found,) = store.read(of_all)
    return found


def test_a_reboot_is_told_unless_something_worse_is_wrong(store: Store) -> None:
    def settled(tx: Tx) -> None:
        conditions.succeed(tx, WEB1, REVISION, "4 steps changed")
        conditions.reboot(tx, WEB1, REVISION, "the server needs a reboot: a kernel waits")

    store.write(settled)
    assert (only(store).ready, only(store).message) == ("True", "the server needs a reboot: a kernel waits")
    store.write(lambda tx: conditions.drifted(tx, WEB1, REVISION, "2 steps differ"))
    assert only(store).message == "2 steps differ"
    store.write(lambda tx: conditions.fail(tx, WEB1, REVISION, "no room", stalled=True))
    assert (only(store).ready, only(store).message) == ("False", "no room")
    store.write(settled)
    store.write(lambda tx: conditions.reboot(tx, WEB1, REVISION, ""))
    assert only(store).message == "4 steps changed"


def test_what_could_not_be_made_yet_is_listed_with_the_reason(store: Store) -> None:
    assert store.read(of_all) == []
    why = "no remote of the application's repository answers"
    store.write(lambda tx: conditions.held(tx, SHOP, REVISION, "SourceNotReady", why))
    found = only(store)
    assert (found.key, found.ready, found.state, found.message) == (SHOP, "Unknown", "", why)
