"""Denials in the database: equal ones are counted on in their row, and a server keeps only so many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import audit_cursors, selinux_audit_logs, servers
from reconciler.store.queries.selinux_audit_logs import GAP, Seen, SelinuxAuditLog

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(path: Path, box: Box) -> Iterator[Store]:
    with Store.open(path, box, clock=lambda: NOON) as opened:
        opened.write(lambda tx: servers.upsert(tx, "web1", servers.ServerFields("198.18.0.1", "alma_9")))
        opened.write(lambda tx: servers.upsert(tx, "web2", servers.ServerFields("198.18.0.2", "alma_9")))
        yield opened


def of(tx: Tx, name: str) -> str:
    row = servers.get(tx, name)
    assert row is not None
    return row.id


def add(
    store: Store,
    identity: str,
    *,
    first: float = 0,
    last: float = 0,
    count: int = 1,
    level: str = "warning",
    server: str = "web1",
) -> str:
    seen = Seen(count, NOON + first * MINUTE, NOON + last * MINUTE, identity)
    return store.write(
        lambda tx: selinux_audit_logs.add(
            tx, log_level=level, message="avc", server_id=of(tx, server), seen=seen
        )
    )


def listed(store: Store, **wanted: object) -> list[SelinuxAuditLog]:
    return store.read(lambda tx: selinux_audit_logs.listed(tx, server_id=of(tx, "web1"), **wanted))  # type: ignore[arg-type]


def test_an_equal_denial_is_found_and_counted_on(store: Store) -> None:
    add(store, "a", first=-90, last=-60)
    add(store, "b", first=-10, last=-5)
    add(store, "a", first=-10, last=-5, server="web2")

    def unit(tx: Tx) -> SelinuxAuditLog | None:
        return selinux_audit_logs.equal(tx, of(tx, "web1"), "a", NOON - 60 * MINUTE)

    assert store.read(unit) is None
    row_id = add(store, "a", first=-20, last=-15, count=3)
    row = store.read(unit)
    assert row is not None
    assert (row.id, row.count, row.message) == (row_id, 3, "avc")
    seen = Seen(5, NOON - 25 * MINUTE, NOON)
    store.write(lambda tx: selinux_audit_logs.more(tx, row, seen, {"n": 8}))
    (newest, *_) = listed(store)
    assert (newest.id, newest.count, newest.context) == (row_id, 8, {"n": 8})
    assert (newest.first_at, newest.last_at, newest.created_at) == (seen.first_at, NOON, NOON)


def test_rows_are_listed_by_when_they_happened_last(store: Store) -> None:
    for identity, last in (("new", -1), ("old", -30), ("middle", -2)):
        add(store, identity, first=-60, last=last)
    assert [row.identity for row in listed(store)] == ["new", "middle", "old"]
    assert [row.identity for row in listed(store, limit=1)] == ["new"]
    assert [row.identity for row in listed(store, since=NOON - 2 * MINUTE, limit=None)] == ["new", "middle"]


def test_what_was_refused_since_a_time_is_summed(store: Store) -> None:
    add(store, "a", first=-50, last=-40, count=100)
    add(store, "b", first=-20, last=-1, count=7)
    add(store, "c", first=-5, last=-5, count=2, level="error")
    add(store, "d", first=-5, last=-5, count=50, level="info")
    add(store, GAP, first=-5, last=-5, level="error")
    add(store, "b", first=-20, last=-1, count=30, server="web2")

    def since(minutes: float) -> int:
        return store.read(
            lambda tx: selinux_audit_logs.count_since(tx, of(tx, "web1"), NOON - minutes * MINUTE)
        )

    assert [since(60), since(30), since(3), since(0)] == [109, 9, 7, 0]
    counts = store.read(lambda tx: selinux_audit_logs.counts_since(tx, NOON - 30 * MINUTE))
    ids = store.read(lambda tx: (of(tx, "web1"), of(tx, "web2")))
    assert counts == {ids[0]: 9, ids[1]: 30}
    gap = store.read(lambda tx: selinux_audit_logs.gap_since(tx, of(tx, "web1"), NOON - 5 * MINUTE))
    assert gap is not None
    assert store.read(lambda tx: selinux_audit_logs.gap_since(tx, of(tx, "web1"), NOON - 4 * MINUTE)) is None


def test_a_server_keeps_its_newest_and_nothing_of_others_goes(store: Store) -> None:
    for n in range(6):
        add(store, f"n{n}", last=n)
    add(store, "other", last=-99, server="web2")
    assert store.write(lambda tx: selinux_audit_logs.keep(tx, of(tx, "web1"), 4)) == 2
    assert [row.identity for row in listed(store)] == ["n5", "n4", "n3", "n2"]
    assert store.write(lambda tx: selinux_audit_logs.prune(tx, NOON)) == 1


def test_a_cursor_is_of_a_server_and_goes_with_it(store: Store) -> None:
    assert store.read(lambda tx: audit_cursors.get(tx, of(tx, "web1"))) is None
    for offset in (1, 2):
        store.write(lambda tx, n=offset: audit_cursors.put(tx, of(tx, "web1"), {"offset": n}, log=True))  # type: ignore[misc]
    store.write(lambda tx: audit_cursors.put(tx, of(tx, "web2"), None, log=False))
    found = store.read(lambda tx: audit_cursors.get(tx, of(tx, "web1")))
    assert found is not None
    assert (found.cursor, found.log, found.read_at) == ({"offset": 2}, 1, NOON)
    assert store.read(audit_cursors.without_log) == [store.read(lambda tx: of(tx, "web2"))]
    store.write(lambda tx: servers.delete(tx, of(tx, "web2")))
    assert store.read(audit_cursors.without_log) == []
