"""What a database knows about itself: its lineage, its serial, whether a key is the right one, and its age identity.

The identity opens what manifests hold encrypted. It is kept sealed in the database, so that a backup has it and a new
APP_KEY seals it anew like everything else.
"""

from __future__ import annotations

import sqlalchemy as sa

from reconciler.errors import StoreDamaged
from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.secrets.age import AgeIdentity
from reconciler.store.ledger import meta
from reconciler.store.transaction import Tx

_KEY_CHECK = "key_check"
_KNOWN_TEXT = "reconciler"
_AGE = "age_identity"


def establish(tx: Tx) -> None:
    """Fills a new database: a lineage, serial 0, and a known text under the current key."""
    put(tx, "lineage", ids.new())
    put(tx, "serial", "0")
    seal_check(tx)
    ensure_age(tx)


def seal_check(tx: Tx) -> None:
    """Seals the known text anew, with the current key."""
    put(tx, _KEY_CHECK, tx.box.seal(_KNOWN_TEXT, table="meta", row_id=_KEY_CHECK, column="value"))


def check_key(tx: Tx) -> None:
    """WrongKey when the box does not hold the key of this database; StoreDamaged when the check itself is gone."""
    sealed = get(tx, _KEY_CHECK)
    if sealed is None:
        raise StoreDamaged(
            "the database lacks its key check", hint="restore a backup with 'reconciler restore'"
        )
    tx.box.open(sealed, table="meta", row_id=_KEY_CHECK, column="value")


def age(tx: Tx) -> AgeIdentity | None:
    """The identity that opens encrypted values; None in a database from before there was one. WrongKey; StoreDamaged."""
    sealed = get(tx, _AGE)
    if sealed is None:
        return None
    text = tx.box.open(sealed, table="meta", row_id=_AGE, column="value")
    try:
        return AgeIdentity(text)
    except ValueError as fault:
        raise StoreDamaged(
            f"the database's age identity is {fault}", hint="restore a backup with 'reconciler restore'"
        ) from None


def ensure_age(tx: Tx) -> AgeIdentity:
    """The identity, made now if there is none."""
    known = age(tx)
    if known is None:
        known = AgeIdentity.generate()
        _seal_age(tx, known.text)
    return known


def reseal_age(tx: Tx) -> int:
    """Seals the identity anew, with the current key: how many values that were, 0 or 1. WrongKey."""
    sealed = get(tx, _AGE)
    if sealed is None or tx.box.current(sealed):
        return 0
    _seal_age(tx, tx.box.open(sealed, table="meta", row_id=_AGE, column="value"))
    return 1


def _seal_age(tx: Tx, text: Secret) -> None:
    put(tx, _AGE, tx.box.seal(text, table="meta", row_id=_AGE, column="value"))


def lineage(tx: Tx) -> str:
    """The ULID given at creation; a plan made from another lineage never fits."""
    return get(tx, "lineage") or ""


def serial(tx: Tx) -> int:
    """The number of the recorded state; each change of the inventory raises it."""
    return int(get(tx, "serial") or 0)


def raise_serial(tx: Tx) -> int:
    """Raises the serial by one and returns it."""
    number = serial(tx) + 1
    put(tx, "serial", str(number))
    return number


def get(tx: Tx, key: str) -> str | None:
    """The value under `key` in `meta`."""
    return tx.connection.scalar(sa.select(meta.c.value).where(meta.c.key == key))


def put(tx: Tx, key: str, value: str) -> None:
    """Sets the value under `key` in `meta`."""
    changed = tx.connection.execute(sa.update(meta).where(meta.c.key == key).values(value=value))
    if changed.rowcount == 0:
        tx.connection.execute(sa.insert(meta).values(key=key, value=value))
