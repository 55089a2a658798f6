"""Tokens for programs and for setting servers up. Only the sha256 of a token is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.kit.secret import Secret
from reconciler.store import rows
from reconciler.store.ledger import tokens
from reconciler.store.transaction import Tx
from reconciler.store.words import TokenKind


@dataclass(frozen=True)
class Token:
    """`used_at` and `used_from` (an address) tell of the last use."""

    id: str
    kind: TokenKind
    name: str
    user_id: str | None
    server_id: str | None
    expires_at: datetime | None
    used_at: datetime | None
    used_from: str | None
    created_at: datetime


def issue(
    tx: Tx,
    kind: TokenKind,
    name: str,
    *,
    valid_for: timedelta | None = None,
    user_id: str | None = None,
    server_id: str | None = None,
) -> tuple[Token, Secret]:
    """A new token of 256 random bits: its record, and the text, which is shown this once."""
    text = secrets.token_urlsafe(32)
    values = {
        "kind": kind,
        "name": name,
        "digest": _digest(text),
        "user_id": user_id,
        "server_id": server_id,
        "expires_at": None if valid_for is None else tx.now + valid_for,
    }
    return rows.by_id(tx, tokens, Token, rows.insert(tx, tokens, values)), Secret(text)


def redeem(tx: Tx, kind: TokenKind, text: str, *, used_from: str, once: bool = False) -> Token | None:
    """The valid token with this text, its use recorded. None when unknown, expired, or with `once` used before."""
    where = [tokens.c.kind == kind, tokens.c.digest == _digest(text)]
    found = rows.first(tx, rows.select(tokens, Token).where(*where), Token)
    if found is None or (found.expires_at is not None and found.expires_at <= tx.now):
        return None
    if once and found.used_at is not None:
        return None
    rows.update(tx, tokens, found.id, {"used_at": tx.now, "used_from": used_from})
    return rows.by_id(tx, tokens, Token, found.id)


def revoke(tx: Tx, token_id: str) -> bool:
    """Removes a token. Whether it was there."""
    return rows.delete(tx, tokens, token_id)


def listed(tx: Tx, *, kind: TokenKind | None = None) -> list[Token]:
    """All tokens, or those of a kind, oldest first."""
    statement = rows.select(tokens, Token).order_by(tokens.c.id)
    if kind is not None:
        statement = statement.where(tokens.c.kind == kind)
    return rows.every(tx, statement, Token)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
