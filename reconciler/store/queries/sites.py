"""Sites and the system user and SELinux categories given to each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import sites
from reconciler.store.transaction import Tx
from reconciler.store.words import AppType, SiteStatus


@dataclass(frozen=True)
class Site:
    """`document_root` is relative to public_html; `mcs_id` numbers the pair of categories, unique on its server."""

    id: str
    server_id: str
    name: str
    domain: str
    document_root: str
    system_user: str
    php_version: str | None
    app_type: AppType
    status: SiteStatus
    mcs_id: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class SiteFields:
    """What a manifest, and the identity given at planning, say about a site."""

    server_id: str
    domain: str
    document_root: str
    system_user: str
    php_version: str | None
    app_type: AppType = "generic"
    mcs_id: int | None = None


def upsert(tx: Tx, name: str, fields: SiteFields) -> Site:
    """Records the site `name`; a new one is `creating`. Conflict."""
    values = {
        "server_id": fields.server_id,
        "domain": fields.domain,
        "document_root": fields.document_root,
        "system_user": fields.system_user,
        "app_type": fields.app_type,
        "php_version": fields.php_version,
        "mcs_id": fields.mcs_id,
    }
    return get_by_id(tx, rows.upsert(tx, sites, {"name": name}, values))


def get(tx: Tx, name: str) -> Site | None:
    """The site of this name."""
    return rows.first(tx, rows.select(sites, Site).where(sites.c.name == name), Site)


def get_by_id(tx: Tx, site_id: str) -> Site:
    """The site with this id. StoreFault when it is gone."""
    return rows.by_id(tx, sites, Site, site_id)


def all(tx: Tx, *, server_id: str | None = None) -> list[Site]:  # noqa: A001 - read as `sites.all(tx)`
    """All sites, or those of one server, by name."""
    statement = rows.select(sites, Site).order_by(sites.c.name)
    if server_id is not None:
        statement = statement.where(sites.c.server_id == server_id)
    return rows.every(tx, statement, Site)


def mcs_ids(tx: Tx, server_id: str) -> set[int]:
    """The category numbers in use on a server."""
    statement = sa.select(sites.c.mcs_id).where(sites.c.server_id == server_id, sites.c.mcs_id.is_not(None))
    return set(tx.connection.scalars(statement))


def set_status(tx: Tx, site_id: str, status: SiteStatus) -> None:
    """Sets the state of the site."""
    rows.update(tx, sites, site_id, {"status": status})


def rename(tx: Tx, site_id: str, name: str) -> None:
    """Gives the site another name. Conflict."""
    rows.update(tx, sites, site_id, {"name": name})


def delete(tx: Tx, site_id: str) -> bool:
    """Removes the record; databases and deployments stay, without a site. Whether it was there."""
    return rows.delete(tx, sites, site_id)
