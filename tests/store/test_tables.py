"""The schema: what deletes with what, what must be unique, which words are allowed, who is indexed."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.errors import Conflict, StoreFault
from reconciler.kit import ids
from reconciler.store import Store, Tx
from reconciler.store.columns import metadata

from .filled import Filled, counts

CASCADES = {
    ("sites", "server_id"): "servers",
    ("server_logs", "server_id"): "servers",
    ("software_installations", "server_id"): "servers",
    ("databases", "server_id"): "servers",
    ("tokens", "server_id"): "servers",
    ("tokens", "user_id"): "users",
    ("user_preferences", "user_id"): "users",
    ("deliveries", "alert_id"): "alerts",
    ("audit_cursors", "server_id"): "servers",
}
NULLED = {
    ("servers", "ssh_key_id"): "ssh_keys",
    ("databases", "site_id"): "sites",
    ("deployments", "site_id"): "sites",
    ("deployments", "server_id"): "servers",
    ("deployments", "actor_id"): "users",
    ("selinux_audit_logs", "server_id"): "servers",
    ("selinux_audit_logs", "site_id"): "sites",
    ("events", "deployment_id"): "deployments",
}
UNIQUE = [
    ("users", "email"),
    ("ssh_keys", "name"),
    ("ssh_keys", "fingerprint"),
    ("servers", "name"),
    ("servers", "ip_address"),
    ("sites", "name"),
    ("sites", "domain"),
    ("sites", "server_id", "system_user"),
    ("sites", "server_id", "mcs_id"),
    ("databases", "server_id", "type", "name"),
    ("user_preferences", "user_id", "key"),
    ("inventory", "kind", "name"),
    ("conditions", "kind", "name", "type"),
    ("revisions", "fleet", "commit"),
    ("sources", "fleet"),
    ("site_sources", "site"),
    ("plans", "fleet", "identity"),
    ("rollouts", "fleet", "commit", "server"),
    ("loop_state", "kind", "name"),
    ("suspensions", "kind", "name"),
    ("leases", "name"),
    ("tokens", "digest"),
    ("audit_cursors", "server_id"),
]
WORDS = {
    ("users", "role"): "admin operator viewer",
    ("servers", "os_version"): "alma_8 alma_9 alma_10 rocky_8 rocky_9 rocky_10 debian_12 debian_13",
    ("servers", "status"): "provisioning active error",
    ("servers", "web_server"): "nginx caddy",
    ("sites", "app_type"): "wordpress laravel generic",
    ("sites", "status"): "creating active suspended error",
    ("databases", "type"): "mariadb postgresql",
    ("databases", "status"): "creating active retained error",
    ("deployments", "triggered_via"): "ui webhook cli push poll schedule callback drift retry",
    ("deployments", "status"): "pending running success failed",
    ("software_installations", "type"): "php nginx caddy mariadb postgresql redis valkey",
    ("software_installations", "action"): "install uninstall upgrade",
    ("software_installations", "status"): "pending installing installed failed removed",
    ("server_logs", "level"): "info warning error",
    ("conditions", "status"): "True False Unknown",
    ("revisions", "status"): "accepted applying applied failed quarantined superseded",
    ("events", "type"): "Normal Warning",
    ("tokens", "kind"): "api setup callback webhook",
    ("sources", "state"): "ok unreachable empty rewritten unsigned refused",
    ("plans", "status"): "planned reviewed waiting approved applied diverged superseded",
    ("rollouts", "state"): "pending applying soaking healthy failed",
    ("requests", "verb"): "reconcile cancel heal reload",
    ("requests", "outcome"): "done refused",
    ("alerts", "state"): "new ongoing resolved",
    ("alerts", "severity"): "info warning error",
    ("deliveries", "event"): "firing reminder resolved",
}


def only_row(tx: Tx, table: sa.Table) -> dict[str, Any]:
    return dict(tx.connection.execute(sa.select(table)).one()._mapping)


def test_a_row_in_every_table_is_what_these_tests_stand_on(store: Store, filled: Filled) -> None:
    assert filled.server
    found = store.read(counts)
    assert {name: n for name, n in found.items() if name != "meta"} == dict.fromkeys(set(found) - {"meta"}, 1)


def test_every_foreign_key_is_covered_here() -> None:
    keys = {
        (t.name, f.parent.name): f.column.table.name for t in metadata.tables.values() for f in t.foreign_keys
    }
    assert keys == CASCADES | NULLED


@pytest.mark.parametrize(("table", "column"), CASCADES)
def test_children_go_with_their_parent(store: Store, filled: Filled, table: str, column: str) -> None:
    parent = metadata.tables[CASCADES[table, column]]
    assert filled.server

    def remove(tx: Tx) -> int:
        others = [
            c for c in metadata.tables[table].foreign_keys if c.parent.name != column and c.parent.nullable
        ]
        cleared = {key.parent.name: None for key in others}
        if cleared:  # so that it is this key and no other that takes the row away
            tx.connection.execute(sa.update(metadata.tables[table]).values(**cleared))
        tx.connection.execute(sa.delete(parent))
        return counts(tx)[table]

    assert store.write(remove) == 0


@pytest.mark.parametrize(("table", "column"), NULLED)
def test_records_outlive_what_they_refer_to(store: Store, filled: Filled, table: str, column: str) -> None:
    assert filled.server
    store.write(lambda tx: tx.connection.execute(sa.delete(metadata.tables[NULLED[table, column]])))
    if (table, column) == ("databases", "site_id"):
        assert store.read(counts)["databases"] == 1
    assert store.read(lambda tx: only_row(tx, metadata.tables[table]))[column] is None


def test_a_reference_to_nothing_is_refused(store: Store, filled: Filled) -> None:
    assert filled.site
    sites = metadata.tables["sites"]
    with pytest.raises(StoreFault, match="refers to one that does not exist"):
        store.write(lambda tx: tx.connection.execute(sa.update(sites).values(server_id=ids.new())))


def test_every_unique_constraint_is_covered_here() -> None:
    found = {
        (table.name, *(column.name for column in constraint.columns))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint) and table.name != "audit"
    }
    assert found == set(UNIQUE)


@pytest.mark.parametrize("case", UNIQUE, ids="-".join)
def test_a_taken_value_is_a_conflict_that_names_it(
    store: Store, filled: Filled, case: tuple[str, ...]
) -> None:
    assert filled.server
    table, columns = metadata.tables[case[0]], case[1:]

    def again(tx: Tx) -> None:
        row = only_row(tx, table)
        taken = {name for other in UNIQUE if other[0] == table.name and other != case for name in other[1:]}
        for name in taken - set(columns) - {f.parent.name for f in table.foreign_keys}:
            row[name] = 4711 if name == "mcs_id" else "postgresql" if name == "type" else f"other-{name}"
        tx.connection.execute(sa.insert(table).values({**row, "id": ids.new()}))

    value = store.read(lambda tx: only_row(tx, table))[columns[-1]]
    with pytest.raises(Conflict) as caught:
        store.write(again)
    if case == ("tokens", "digest"):
        assert value not in caught.value.message
    else:
        assert f"{columns[-1]} {value!r}" in caught.value.message
    assert "sqlite3" not in str(caught.value)


@pytest.mark.parametrize(("table", "column"), WORDS)
def test_only_the_words_of_the_vocabulary_are_stored(
    store: Store, filled: Filled, table: str, column: str
) -> None:
    assert filled.server
    target = metadata.tables[table]

    def put(word: str) -> None:
        store.write(lambda tx: tx.connection.execute(sa.update(target).values({column: word})))

    for word in WORDS[table, column].split():
        put(word)
    for word in ("", "Active ", "unheard_of"):
        with pytest.raises(StoreFault, match=f"ck_{table}_{column}"):
            put(word)


def test_every_vocabulary_is_covered_here() -> None:
    checks = {
        (table.name, str(constraint.name).removeprefix(f"ck_{table.name}_"))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert checks == set(WORDS) | {("servers", "port")}


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_is_a_port(store: Store, filled: Filled, port: int) -> None:
    assert filled.server
    with pytest.raises(StoreFault, match="ck_servers_port"):
        store.write(lambda tx: tx.connection.execute(sa.update(metadata.tables["servers"]).values(port=port)))


def test_looking_for_a_status_uses_its_index(store: Store) -> None:
    plan = "EXPLAIN QUERY PLAN SELECT id FROM deployments WHERE status = 'running'"
    rows = store.read(lambda tx: tx.connection.exec_driver_sql(plan).all())
    assert "ix_deployments_status" in rows[0][-1]


def test_every_reference_is_indexed() -> None:
    indexed = {(t.name, next(iter(i.columns)).name) for t in metadata.tables.values() for i in t.indexes}
    assert set(CASCADES | NULLED) <= indexed


def test_a_time_without_a_zone_is_not_stored(store: Store, filled: Filled) -> None:
    assert filled.server
    naive = store.read(lambda tx: tx.now).replace(tzinfo=None)
    with pytest.raises(sa.exc.StatementError, match="without a zone"):
        store.write(
            lambda tx: tx.connection.execute(sa.update(metadata.tables["servers"]).values(created_at=naive))
        )
