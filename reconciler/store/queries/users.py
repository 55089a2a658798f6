"""People: commit authors and operators. Emails are kept in small letters, so that one person is one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.kit.secret import Secret
from reconciler.store import rows
from reconciler.store.tables import users
from reconciler.store.transaction import Tx
from reconciler.store.words import Role


@dataclass(frozen=True)
class User:
    """`signing_keys` are public keys in OpenSSH's form."""

    id: str
    name: str
    email: str
    role: Role
    signing_keys: list[str] | None
    created_at: datetime
    updated_at: datetime


def upsert(tx: Tx, *, email: str, name: str, role: Role = "viewer", signing_keys: Sequence[str] = ()) -> User:
    """Records the person with this email."""
    values = {"name": name, "role": role, "signing_keys": list(signing_keys)}
    return rows.by_id(tx, users, User, rows.upsert(tx, users, {"email": email.strip().lower()}, values))


def by_email(tx: Tx, email: str) -> User | None:
    """The person with this email, whatever its letters' case."""
    return rows.first(tx, rows.select(users, User).where(users.c.email == email.strip().lower()), User)


def all(tx: Tx) -> list[User]:  # noqa: A001 - read as `users.all(tx)`
    """All people, by email."""
    return rows.every(tx, rows.select(users, User).order_by(users.c.email), User)


def set_password_hash(tx: Tx, user_id: str, password_hash: str | None) -> None:
    """Stores the argon2id hash of the password; None ends logging in by password."""
    rows.update(tx, users, user_id, {"password": password_hash})


def password_hash(tx: Tx, user_id: str) -> Secret | None:
    """The argon2id hash, to verify a password against."""
    found = tx.connection.scalar(sa.select(users.c.password).where(users.c.id == user_id))
    return None if found is None else Secret(found)


def delete(tx: Tx, user_id: str) -> bool:
    """Removes the person with their preferences; their deployments stay. Whether they were there."""
    return rows.delete(tx, users, user_id)
