"""Where the repositories of sites' applications stand, and the commits that operators went back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import site_sources as table
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class Revision:
    """A commit, and sha256 and bytes of the archive that was made of it."""

    commit: str
    archive: str
    size: int


@dataclass(frozen=True)
class SiteSource:
    """What is known of the source of one site.

    `wish` says what was asked for; `tip` is the newest commit that was found for it, `held` the one that an operator went
    back to, which counts until there is a newer tip. `fault` is why the last look found nothing, empty when it did.
    """

    site: str
    wish: str
    tip: Revision | None
    held: Revision | None
    fault: str
    checked_at: datetime | None

    @property
    def revision(self) -> Revision | None:
        """The commit that counts."""
        return self.held or self.tip


def every(tx: Tx) -> dict[str, SiteSource]:
    """All, by the names of sites."""
    return {row["site"]: _read(row) for row in tx.connection.execute(sa.select(table)).mappings()}


def get(tx: Tx, site: str) -> SiteSource | None:
    """That of one site."""
    row = tx.connection.execute(sa.select(table).where(table.c.site == site)).mappings().first()
    return _read(row) if row is not None else None


def found(tx: Tx, site: str, wish: str, tip: Revision) -> bool:
    """Records where a source stands: whether it stood elsewhere before. What an operator went back to no longer counts then."""
    known = get(tx, site)
    moved = known is None or known.wish != wish or known.tip is None or known.tip.commit != tip.commit
    values: dict[str, Any] = {
        "wish": wish,
        "commit_hash": tip.commit,
        "archive": tip.archive,
        "size": tip.size,
        "fault": "",
        "checked_at": tx.now,
    }
    if moved:
        values["held"] = None
    rows.upsert(tx, table, {"site": site}, values)
    return moved


def failed(tx: Tx, site: str, wish: str, fault: str) -> bool:
    """Records why a source could not be read: whether that is news. What it stood at before stays, if the wish is the same."""
    known = get(tx, site)
    same = known is not None and known.wish == wish
    values: dict[str, Any] = {"wish": wish, "fault": fault, "checked_at": tx.now}
    if not same:
        values |= {"commit_hash": None, "archive": None, "size": None, "held": None}
    rows.upsert(tx, table, {"site": site}, values)
    return not same or known is None or known.fault != fault


def hold(tx: Tx, site: str, held: Revision | None) -> None:
    """Goes back to a commit until the source moves; None goes on with what it stands at."""
    values = {"held": asdict(held) if held is not None else None}
    tx.connection.execute(sa.update(table).where(table.c.site == site).values(**values, updated_at=tx.now))


def held(tx: Tx) -> dict[str, str]:
    """The commits that operators went back to, by site."""
    rows_ = tx.connection.execute(sa.select(table.c.site, table.c.held).where(table.c.held.is_not(None)))
    return {row.site: str(row.held["commit"]) for row in rows_}


def forget(tx: Tx, site: str) -> None:
    """Forgets the source of a site that is gone."""
    tx.connection.execute(sa.delete(table).where(table.c.site == site))


def _read(row: Mapping[Any, Any]) -> SiteSource:
    tip = Revision(row["commit_hash"], row["archive"], row["size"]) if row["commit_hash"] else None
    held = Revision(**row["held"]) if row["held"] else None
    return SiteSource(row["site"], row["wish"], tip, held, row["fault"], row["checked_at"])
