"""SSH keys. The private half is sealed and comes out only as a `Secret`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.kit.secret import Secret
from reconciler.store import rows
from reconciler.store.tables import ssh_keys
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class SshKey:
    """`fingerprint` in OpenSSH's form, `SHA256:…`; `public_key` is one authorized_keys line."""

    id: str
    name: str
    public_key: str
    fingerprint: str
    created_at: datetime
    updated_at: datetime


def upsert(tx: Tx, *, name: str, public_key: str, fingerprint: str) -> SshKey:
    """Records the key `name`. A new public key drops the private one, which belonged to the old. Conflict."""
    known = get(tx, name)
    row_id = rows.upsert(tx, ssh_keys, {"name": name}, {"public_key": public_key, "fingerprint": fingerprint})
    if known is not None and known.fingerprint != fingerprint:
        rows.update(tx, ssh_keys, row_id, {"private_key": None})
    return rows.by_id(tx, ssh_keys, SshKey, row_id)


def get(tx: Tx, name: str) -> SshKey | None:
    """The key of this name."""
    return rows.first(tx, rows.select(ssh_keys, SshKey).where(ssh_keys.c.name == name), SshKey)


def all(tx: Tx) -> list[SshKey]:  # noqa: A001 - read as `ssh_keys.all(tx)`
    """All keys, by name."""
    return rows.every(tx, rows.select(ssh_keys, SshKey).order_by(ssh_keys.c.name), SshKey)


def set_private_key(tx: Tx, key_id: str, private_key: Secret) -> None:
    """Seals and stores the private half (OpenSSH's PEM text)."""
    sealed = tx.box.seal(private_key, table="ssh_keys", row_id=key_id, column="private_key")
    rows.update(tx, ssh_keys, key_id, {"private_key": sealed})


def private_key(tx: Tx, key_id: str) -> Secret | None:
    """The private half, or None when it is kept elsewhere. WrongKey."""
    sealed = tx.connection.scalar(sa.select(ssh_keys.c.private_key).where(ssh_keys.c.id == key_id))
    return (
        None if sealed is None else tx.box.open(sealed, table="ssh_keys", row_id=key_id, column="private_key")
    )


def rename(tx: Tx, key_id: str, name: str) -> None:
    """Gives the key another name. Conflict."""
    rows.update(tx, ssh_keys, key_id, {"name": name})


def delete(tx: Tx, key_id: str) -> bool:
    """Removes the key; servers that used it have none then. Whether it was there."""
    return rows.delete(tx, ssh_keys, key_id)
