"""Secrets in the database: sealed for their place, opened by the right key only, shown nowhere."""

from __future__ import annotations

import traceback
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.errors import StoreFault, WrongKey
from reconciler.kit.secret import MASK, Secret
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import databases, ssh_keys
from reconciler.store.rotate import rotate
from reconciler.store.tables import databases as databases_table
from reconciler.store.tables import ssh_keys as keys_table

from .filled import PASSWORD, PRIVATE_KEY, Filled, fill

NEW = b"n" * 32
OLD = b"k" * 32


def sealed(tx: Tx, column: sa.Column[str]) -> str:
    return tx.connection.execute(sa.select(column)).scalar_one()


def test_secrets_come_back_as_secrets_and_lie_sealed_in_the_file(store: Store, filled: Filled) -> None:
    password = store.read(lambda tx: databases.password_of(tx, filled.database))
    private = store.read(lambda tx: ssh_keys.private_key(tx, filled.key))
    assert password == Secret(PASSWORD)
    assert private == Secret(PRIVATE_KEY)
    assert str(password) == repr(private) == MASK
    store.close()
    data = b"".join(file.read_bytes() for file in store.path.parent.glob("state.sqlite*"))
    assert b"192.0.2.1" in data  # so that looking into the file is known to find things
    assert PASSWORD.encode() not in data
    assert b"canary" not in data


def test_no_row_class_carries_a_secret(store: Store, filled: Filled) -> None:
    shown = store.read(lambda tx: repr((ssh_keys.get(tx, "fleet"), databases.get_by_id(tx, filled.database))))
    assert "fleet" in shown
    assert "canary" not in shown
    assert "v1." not in shown


def test_a_sealed_value_moved_to_another_row_does_not_open(store: Store, filled: Filled) -> None:
    def steal(tx: Tx) -> str:
        fields = databases.DatabaseFields(filled.server, "blog", "blog", "mariadb")
        other = databases.upsert(tx, "blog-db", fields, Secret("another-password"))
        table = databases_table
        value = tx.connection.execute(
            sa.select(table.c.password).where(table.c.id == filled.database)
        ).scalar_one()
        tx.connection.execute(sa.update(table).where(table.c.id == other.id).values(password=value))
        return other.id

    thief = store.write(steal)
    with pytest.raises(WrongKey, match=f"databases/{thief}/password does not open") as caught:
        store.read(lambda tx: databases.password_of(tx, thief))
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert store.read(lambda tx: databases.password_of(tx, filled.database)) == Secret(PASSWORD)


def test_an_altered_value_does_not_open(store: Store, filled: Filled) -> None:
    def alter(tx: Tx) -> None:
        value = sealed(tx, databases_table.c.password)
        swapped = value[:-3] + ("A" if value[-3] != "A" else "B") + value[-2:]
        tx.connection.execute(sa.update(databases_table).values(password=swapped))

    store.write(alter)
    with pytest.raises(WrongKey, match="altered"):
        store.read(lambda tx: databases.password_of(tx, filled.database))


def test_the_wrong_app_key_is_noticed_when_the_database_is_opened(path: Path) -> None:
    with pytest.raises(WrongKey, match="sealed with key") as caught:
        Store.open(path, Box([NEW]))
    assert "put back the APP_KEY" in caught.value.hint


def test_a_key_is_replaced_step_by_step(path: Path, box: Box) -> None:
    with Store.open(path, box) as store:
        ids = store.write(fill)
    with Store.open(path, Box([NEW, OLD])) as store:
        assert store.read(lambda tx: databases.password_of(tx, ids.database)) == Secret(PASSWORD)
        assert store.write(rotate) == 3, "a private key, a password and the age identity"
        assert store.write(rotate) == 0
    with Store.open(path, Box([NEW])) as store:
        assert store.read(lambda tx: databases.password_of(tx, ids.database)) == Secret(PASSWORD)
        assert store.read(lambda tx: ssh_keys.private_key(tx, ids.key)) == Secret(PRIVATE_KEY)
    with pytest.raises(WrongKey):
        Store.open(path, box)


def test_a_rotation_that_meets_a_damaged_value_changes_nothing(path: Path, box: Box) -> None:
    with Store.open(path, box) as store:
        store.write(fill)
        store.write(lambda tx: tx.connection.execute(sa.update(databases_table).values(password="v1.x.y.z")))
    with Store.open(path, Box([NEW, OLD])) as store:
        before = store.read(lambda tx: sealed(tx, keys_table.c.private_key))
        with pytest.raises(WrongKey, match=r"databases/\w{26}/password was sealed with key x"):
            store.write(rotate)
        assert store.read(lambda tx: sealed(tx, keys_table.c.private_key)) == before


def test_errors_of_the_database_show_no_values(store: Store, filled: Filled) -> None:
    assert filled.database
    with pytest.raises(StoreFault) as caught:
        store.write(
            lambda tx: tx.connection.execute(
                sa.update(databases_table).values(password="canary-in-a-statement", status="no such status")
            )
        )
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_errors_before_the_database_is_asked_show_no_values(store: Store, filled: Filled) -> None:
    assert filled.database
    values = {"password": "canary-in-a-statement", "created_at": datetime(2026, 1, 1)}
    with pytest.raises(sa.exc.StatementError, match="without a zone") as caught:
        store.write(lambda tx: tx.connection.execute(sa.update(databases_table), values))
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_another_public_key_drops_the_private_one_of_the_former(store: Store, filled: Filled) -> None:
    def upsert(fingerprint: str) -> Secret | None:
        def unit(tx: Tx) -> Secret | None:
            key = ssh_keys.upsert(
                tx, name="fleet", public_key=f"ssh-ed25519 {fingerprint}", fingerprint=fingerprint
            )
            return ssh_keys.private_key(tx, key.id)

        return store.write(unit)

    assert filled.key
    assert upsert("SHA256:abc") == Secret(PRIVATE_KEY)
    assert upsert("SHA256:def") is None


def test_generated_passwords_differ_and_are_kept(store: Store, filled: Filled) -> None:
    def declare(name: str, given: Secret | None = None) -> Secret:
        def unit(tx: Tx) -> Secret:
            fields = databases.DatabaseFields(filled.server, name, name, "postgresql")
            return databases.password_of(tx, databases.upsert(tx, f"{name}-db", fields, given).id)

        return store.write(unit)

    first, second = declare("one"), declare("two")
    assert first != second
    assert len(first.reveal()) == 32
    assert declare("one") == first
    assert declare("one", Secret("given-by-hand-0001")) == declare("one") == Secret("given-by-hand-0001")


def test_a_retained_database_declared_again_is_taken_over_with_its_password(
    store: Store, filled: Filled
) -> None:
    def retain_and_declare(tx: Tx) -> tuple[databases.Database | None, databases.Database]:
        databases.set_status(tx, filled.database, "retained")
        gone = databases.get(tx, "shop-db")
        fields = databases.DatabaseFields(filled.server, "shop", "shop", "mariadb")
        return gone, databases.upsert(tx, "store-db", fields)

    gone, again = store.write(retain_and_declare)
    assert gone is None
    assert (again.id, again.status, again.manifest_name) == (filled.database, "creating", "store-db")
    assert store.read(lambda tx: databases.password_of(tx, filled.database)) == Secret(PASSWORD)
