"""What the queries promise beyond storing and fetching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from reconciler.errors import Conflict, StoreFault
from reconciler.kit.secret import Secret
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.ledger import audit as audit_table
from reconciler.store.queries import (
    audit,
    conditions,
    events,
    inventory,
    leases,
    preferences,
    revisions,
    selinux_audit_logs,
    server_logs,
    servers,
    sites,
    software_installations,
    tokens,
    users,
)
from reconciler.store.queries.conditions import State
from reconciler.store.queries.inventory import Applied
from reconciler.store.words import SoftwareAction, SoftwareStatus

from .filled import Filled

T = TypeVar("T")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Later:
    """A store whose clock a test sets."""

    def __init__(self, path: Path, box: Box) -> None:
        self.now = NOON
        self.store = Store.open(path, box, clock=lambda: self.now)

    def at(self, seconds: int, unit: Callable[[Tx], T]) -> T:
        self.now = NOON + timedelta(seconds=seconds)
        return self.store.write(unit)


@pytest.fixture
def later(path: Path, box: Box) -> Iterator[Later]:
    made = Later(path, box)
    yield made
    made.store.close()


def test_an_unchanged_upsert_keeps_the_row_as_it_is(later: Later) -> None:
    fields = servers.ServerFields(
        "192.0.2.1", "rocky_9", database_engines=["mariadb"], software={"php": ["8.3"]}
    )
    first = later.at(0, lambda tx: servers.upsert(tx, "web1", fields))
    assert later.at(5, lambda tx: servers.upsert(tx, "web1", fields)) == first
    moved = servers.ServerFields(
        "192.0.2.9", "rocky_9", database_engines=["mariadb"], software={"php": ["8.3"]}
    )
    changed = later.at(9, lambda tx: servers.upsert(tx, "web1", moved))
    assert (changed.id, changed.ip_address) == (first.id, "192.0.2.9")
    assert (changed.created_at, changed.updated_at) == (NOON, NOON + timedelta(seconds=9))


def test_what_the_node_told_survives_a_changed_manifest(store: Store, filled: Filled) -> None:
    def tell(tx: Tx) -> servers.Server:
        servers.set_status(tx, filled.server, "active")
        servers.set_host_keys(tx, filled.server, ["ssh-ed25519 AAAA"])
        servers.set_agent_digest(tx, filled.server, "d" * 64)
        servers.set_setup_token(tx, filled.server, "e" * 64)
        return servers.upsert(tx, "web1", servers.ServerFields("192.0.2.7", "alma_9"))

    known = store.write(tell)
    assert (known.status, known.host_keys, known.agent_digest) == ("active", ["ssh-ed25519 AAAA"], "d" * 64)
    assert store.read(lambda tx: servers.by_setup_token(tx, "e" * 64)) == known
    assert store.read(servers.ids_by_name) == {"web1": filled.server}


def test_fences_and_site_numbers_only_grow(store: Store, filled: Filled) -> None:
    assert [store.write(lambda tx: servers.bump_fence(tx, filled.server)) for _ in range(2)] == [1, 2]
    assert store.write(lambda tx: servers.bump_fence(tx, filled.server, seen=40)) == 41
    assert store.write(lambda tx: servers.bump_fence(tx, filled.server, seen=7)) == 42
    numbers = [store.write(lambda tx: servers.allocate_site_number(tx, filled.server)) for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_a_number_whose_unit_failed_is_given_again(store: Store, filled: Filled) -> None:
    def fail(tx: Tx) -> None:
        servers.allocate_site_number(tx, filled.server)
        raise LookupError

    with pytest.raises(LookupError):
        store.write(fail)
    assert store.write(lambda tx: servers.allocate_site_number(tx, filled.server)) == 1


def test_a_renamed_resource_keeps_its_row(store: Store, filled: Filled) -> None:
    store.write(lambda tx: servers.rename(tx, filled.server, "web9"))
    store.write(lambda tx: sites.rename(tx, filled.site, "boutique"))
    server = store.read(lambda tx: servers.get(tx, "web9"))
    site = store.read(lambda tx: sites.get(tx, "boutique"))
    assert server is not None
    assert site is not None
    assert (server.id, site.id) == (filled.server, filled.site)
    assert store.read(lambda tx: sites.mcs_ids(tx, filled.server)) == {7}
    assert store.read(lambda tx: sites.all(tx, server_id="another")) == []


def test_each_change_of_the_inventory_raises_the_serial(store: Store) -> None:
    applied = Applied(
        "Site", "shop", {"b": 1, "a": [True, None]}, "d", [{"type": "file"}], "c" * 40, "s.yaml", 4
    )
    steps: list[Callable[[Tx], object]] = [
        lambda tx: inventory.put(tx, applied),
        lambda tx: inventory.put(tx, applied),
        lambda tx: inventory.rename(tx, "Site", "shop", "boutique"),
        lambda tx: inventory.rename(tx, "Site", "shop", "elsewhere"),
        lambda tx: inventory.forget(tx, "Site", "boutique"),
        lambda tx: inventory.forget(tx, "Site", "boutique"),
    ]
    serials = []
    for step in steps:
        store.write(step)
        serials.append(store.read(inventory.serial))
    assert serials == [1, 2, 3, 3, 4, 4]
    assert len(store.read(inventory.lineage)) == 26


def test_an_inventory_entry_comes_back_as_it_went_in(later: Later) -> None:
    spec = {"domain": "shop.example.test", "env": {"Ä": "ö"}, "n": 3}
    applied = Applied(
        "Site",
        "shop",
        spec,
        "d1",
        [{"type": "file", "path": "/x"}],
        "c1",
        "a/s.yaml",
        3,
        "web1",
        {"system_user": "web1"},
    )
    later.at(3, lambda tx: inventory.put(tx, applied))
    entry = later.store.read(lambda tx: inventory.get(tx, "Site", "shop"))
    assert later.store.read(inventory.all) == [entry]
    assert entry is not None
    assert (entry.spec, entry.steps, entry.identity) == (spec, applied.steps, {"system_user": "web1"})
    assert (entry.path, entry.line, entry.server, entry.applied_at) == (
        "a/s.yaml",
        3,
        "web1",
        NOON + timedelta(seconds=3),
    )


def test_a_secret_cannot_slip_into_the_inventory(store: Store) -> None:
    applied = Applied("Site", "shop", {"token": Secret("canary")}, "d", [], "c", "s.yaml", 1)
    with pytest.raises(sa.exc.StatementError, match="not JSON serializable") as caught:
        store.write(lambda tx: inventory.put(tx, applied))
    assert "canary" not in str(caught.value)


def test_a_condition_remembers_when_its_status_changed(later: Later) -> None:
    def put(seconds: int, state: State) -> datetime:
        return later.at(
            seconds, lambda tx: conditions.put(tx, "Site", "shop", "Ready", state)
        ).last_transition_at

    assert put(0, State("False", "Applying", "step 1")) == NOON
    assert put(5, State("False", "Applying", "step 2", "c1")) == NOON
    assert put(9, State("True", "Applied", "in sync", "c1")) == NOON + timedelta(seconds=9)
    found = later.store.read(lambda tx: conditions.get(tx, "Site", "shop", "Ready"))
    assert later.store.read(lambda tx: conditions.listed(tx, kind="Site")) == [found]
    assert found is not None
    assert (found.reason, found.observed_revision) == ("Applied", "c1")


def test_conditions_follow_a_rename_and_end_with_their_resource(store: Store, filled: Filled) -> None:
    assert filled.site
    store.write(
        lambda tx: conditions.put(tx, "Site", "boutique", "Ready", State("Unknown", "Old", "left over"))
    )
    store.write(lambda tx: conditions.rename(tx, "Site", "shop", "boutique"))
    names = [(c.name, c.status) for c in store.read(conditions.listed)]
    assert names == [("boutique", "True")]
    store.write(lambda tx: conditions.forget(tx, "Site", "boutique"))
    assert store.read(conditions.listed) == []


def test_revisions_are_accepted_once_and_the_newest_is_known(later: Later) -> None:
    def accept(seconds: int, commit: str) -> revisions.Revision:
        return later.at(
            seconds,
            lambda tx: revisions.accept(
                tx, commit=commit, author_name="A", author_email="a@b.test", message="m"
            ),
        )

    one, two = accept(0, "1" * 40), accept(5, "2" * 40)
    assert accept(9, "1" * 40) == one
    later.at(10, lambda tx: revisions.set_status(tx, "1" * 40, "applied"))
    assert later.store.read(revisions.newest) == two
    applied = later.store.read(lambda tx: revisions.newest(tx, status="applied"))
    assert applied is not None
    assert applied.commit == "1" * 40
    assert [r.commit[0] for r in later.store.read(revisions.listed)] == ["2", "1"]
    with pytest.raises(StoreFault, match="has no record"):
        later.at(11, lambda tx: revisions.set_status(tx, "3" * 40, "failed"))


def test_a_person_is_one_record_whatever_the_case_of_the_email(store: Store) -> None:
    one = store.write(lambda tx: users.upsert(tx, email=" Ada@Example.Test ", name="Ada"))
    two = store.write(lambda tx: users.upsert(tx, email="ada@example.test", name="Ada L", role="operator"))
    assert (one.id, two.name, two.role) == (two.id, "Ada L", "operator")
    assert store.read(lambda tx: users.by_email(tx, "ADA@example.test")) == two
    assert store.read(users.all) == [two]
    store.write(lambda tx: users.set_password_hash(tx, one.id, "$argon2id$x"))
    assert store.read(lambda tx: users.password_hash(tx, one.id)) == Secret("$argon2id$x")
    assert "argon2id" not in repr(store.read(users.all))


def test_software_moves_through_its_states_and_the_newest_record_decides(
    store: Store, filled: Filled
) -> None:
    def put(action: SoftwareAction) -> software_installations.SoftwareInstallation:
        return store.write(
            lambda tx: software_installations.put(
                tx, server_id=filled.server, type="php", version="8.3", action=action
            )
        )

    def advance(row: str, *states: SoftwareStatus) -> None:
        def unit(tx: Tx) -> None:
            for state in states:
                software_installations.advance(tx, row, state)

        store.write(unit)

    install = put("install")
    assert put("install") == install
    advance(install.id, "installing", "failed", "installing", "installed")
    assert list(store.read(lambda tx: software_installations.present(tx, filled.server))) == [("php", "8.3")]
    with pytest.raises(StoreFault, match="is installed and cannot become installing"):
        advance(install.id, "installing")
    removal = put("uninstall")
    advance(removal.id, "installing", "removed")
    assert store.read(lambda tx: software_installations.present(tx, filled.server)) == {}
    assert store.read(software_installations.count) == 2


def test_logs_are_listed_newest_first(store: Store, filled: Filled) -> None:
    def log(tx: Tx) -> None:
        for n in range(3):
            server_logs.add(tx, server_id=filled.server, level="error", message=f"m{n}")

    store.write(log)
    found = store.read(lambda tx: server_logs.listed(tx, server_id=filled.server, level="error", limit=2))
    assert [entry.message for entry in found] == ["m2", "m1"]
    denial = {"scontext": "s0:c1,c2", "count": 3}
    store.write(
        lambda tx: selinux_audit_logs.add(
            tx,
            log_level="warning",
            message="avc",
            context=denial,
            site_id=filled.site,
            server_id=filled.server,
        )
    )
    rows = store.read(lambda tx: selinux_audit_logs.listed(tx, site_id=filled.site, server_id=filled.server))
    assert [row.context for row in rows] == [denial, None]
    shown = store.read(
        lambda tx: events.listed(tx, kind="Site", name="shop", deployment_id=filled.deployment)
    )
    assert [event.reason for event in shown] == ["Applied"]


def test_a_preference_holds_any_json_value(store: Store, filled: Filled) -> None:
    values = {"none": None, "flag": False, "list": [1, {"a": "ü"}], "text": "x"}

    def put(tx: Tx) -> None:
        for key, value in values.items():
            preferences.put(tx, filled.user, key, value)

    store.write(put)
    assert store.read(lambda tx: preferences.all(tx, filled.user)) == {"theme": "dark", **values}
    assert store.read(lambda tx: preferences.get(tx, filled.user, "none", "default")) is None
    assert store.read(lambda tx: preferences.get(tx, filled.user, "unset", "default")) == "default"


def test_one_holds_a_lease_and_the_number_tells_old_from_new(later: Later) -> None:
    def acquire(seconds: int, owner: str) -> int | None:
        lease = later.at(seconds, lambda tx: leases.acquire(tx, "daemon", owner, timedelta(seconds=10)))
        return None if lease is None else lease.fence

    assert [acquire(0, "a"), acquire(5, "b"), acquire(9, "a"), acquire(18, "b")] == [1, None, 1, None]
    assert acquire(19, "b") == 2
    assert later.at(20, lambda tx: leases.release(tx, "daemon", "a")) is False
    assert later.at(20, lambda tx: leases.release(tx, "daemon", "b")) is True
    assert acquire(20, "b") == 3


def test_a_setup_token_works_once_and_in_time(later: Later) -> None:
    def issue(tx: Tx) -> Secret:
        return tokens.issue(tx, "setup", "web1", valid_for=timedelta(seconds=60))[1]

    def redeem(seconds: int, text: str) -> tokens.Token | None:
        return later.at(
            seconds, lambda tx: tokens.redeem(tx, "setup", text, used_from="192.0.2.1", once=True)
        )

    used, late = later.at(0, issue), later.at(0, issue)
    assert redeem(1, "guess") is None
    first = redeem(2, used.reveal())
    assert first is not None
    assert first.used_from == "192.0.2.1"
    assert redeem(3, used.reveal()) is None
    assert redeem(60, late.reveal()) is None
    assert later.at(5, lambda tx: tokens.redeem(tx, "api", late.reveal(), used_from="192.0.2.1")) is None
    assert len(later.store.read(lambda tx: tokens.listed(tx, kind="setup"))) == 2
    assert later.at(61, lambda tx: tokens.revoke(tx, first.id)) is True


def fill_audit(tx: Tx) -> None:
    for n in range(5):
        audit.append(
            tx, actor="ada", action="approve", subject=f"Site/s{n}", detail={"n": n, "z": ("a", 1.5)}
        )


def test_the_audit_log_is_a_sound_chain(store: Store) -> None:
    assert store.read(audit.verify) is None
    store.write(fill_audit)
    assert store.read(audit.verify) is None
    entries = store.read(lambda tx: audit.listed(tx, limit=2))
    assert [entry.seq for entry in entries] == [5, 4]
    assert entries[0].prev_hash == entries[1].hash
    assert store.read(audit.head) == entries[0]
    assert len(store.read(lambda tx: audit.listed(tx, subject="Site/s2"))) == 1


@pytest.mark.parametrize(
    "statement",
    [sa.update(audit_table).values(actor="eve"), sa.delete(audit_table).where(audit_table.c.seq == 2)],
)
def test_the_database_refuses_to_change_the_audit_log(store: Store, statement: sa.Executable) -> None:
    store.write(fill_audit)
    with pytest.raises(StoreFault, match="the audit log is append-only"):
        store.write(lambda tx: tx.connection.execute(statement))
    assert len(store.read(audit.listed)) == 5


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 3", "entry 3 was altered"),
        ("UPDATE audit SET detail = '{}' WHERE seq = 1", "entry 1 was altered"),
        ("DELETE FROM audit WHERE seq = 2", "entry 2 is missing"),
        ("UPDATE audit SET prev_hash = 'x' WHERE seq = 4", "entry 4 does not follow entry 3"),
    ],
)
def test_tampering_past_the_triggers_is_found(store: Store, statement: str, finding: str) -> None:
    store.write(fill_audit)

    def tamper(tx: Tx) -> None:
        tx.connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        tx.connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
        tx.connection.exec_driver_sql(statement)

    store.write(tamper)
    assert store.read(audit.verify) == finding


def test_a_rename_to_a_taken_name_is_a_conflict(store: Store, filled: Filled) -> None:
    other = store.write(lambda tx: servers.upsert(tx, "web2", servers.ServerFields("192.0.2.2", "alma_9")))
    with pytest.raises(Conflict, match="another server has name 'web1'"):
        store.write(lambda tx: servers.rename(tx, other.id, "web1"))
    assert store.read(lambda tx: servers.get(tx, "web1")) is not None
    assert filled.server
