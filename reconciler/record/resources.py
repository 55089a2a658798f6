"""The rows of servers, sites, databases, keys and people: made before a node is touched, brought up to date after."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Literal, assert_never

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Database, Kind, Resource, Rollout, Server, Site, SSHKey, User
from reconciler.errors import Conflict, StoreFault
from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.selinux import mcs
from reconciler.store import Tx
from reconciler.store.queries import databases, servers, sites, ssh_keys, users
from reconciler.store.queries.databases import DatabaseFields
from reconciler.store.queries.servers import ServerFields
from reconciler.store.queries.sites import SiteFields

State = Literal["creating", "ready", "error"]


def put(tx: Tx, manifest: Resource, identity: Mapping[str, str]) -> None:
    """Write the row of a resource; a new one starts as provisioning or creating. Conflict when a value is taken.

    A new database gets its password here, before any node learns of it; one that was retained keeps its own. A key
    without a declared public half has its row from where it was generated; it is left as it is.
    """
    match manifest:
        case Server():
            _put_server(tx, manifest)
        case Site():
            _put_site(tx, manifest, identity)
        case Database():
            _put_database(tx, manifest)
        case SSHKey() | User():
            _put_record(tx, manifest)
        case Rollout():
            pass  # the inventory has all of it
        case _:
            assert_never(manifest)


def _put_server(tx: Tx, manifest: Server) -> None:
    key = ssh_keys.get(tx, manifest.spec.ssh_key)
    spec = manifest.spec
    fields = ServerFields(
        ip_address=spec.address,
        os_version=spec.os.value,
        hostname=spec.hostname or "",
        web_server=spec.web_server,
        port=spec.port,
        ssh_key_id=key.id if key else None,
        database_engines=spec.database_engines,
        software=spec.software.model_dump(mode="json", by_alias=True),
    )
    servers.upsert(tx, manifest.name, fields)


def _put_site(tx: Tx, manifest: Site, identity: Mapping[str, str]) -> None:
    spec = manifest.spec
    server = _server(tx, spec.server)
    user = identity["system_user"]
    reserve(tx, spec.server, identity)
    fields = SiteFields(
        server_id=server.id,
        domain=spec.domain,
        document_root=spec.document_root or ("public" if spec.app_type == "laravel" else ""),
        system_user=user,
        php_version=spec.php_version,
        app_type=spec.app_type,
        mcs_id=_mcs_id(identity),
    )
    sites.upsert(tx, manifest.name, fields)


def _mcs_id(identity: Mapping[str, str]) -> int | None:
    """The number of the site's categories; one from before there were any gets those of its system user."""
    given = identity.get("mcs_id")
    return int(given) if given is not None else mcs.of_user(identity["system_user"])


def reserve(tx: Tx, server: str, identity: Mapping[str, str]) -> None:
    """Move a server's counter past the system user that a plan gave out, so that it is never given again."""
    digits = identity.get("system_user", "").removeprefix("web")
    row = servers.get(tx, server)
    while digits.isdigit() and row is not None and row.next_site_number <= int(digits):
        servers.allocate_site_number(tx, row.id)
        row = servers.get(tx, server)


def _put_database(tx: Tx, manifest: Database) -> None:
    spec = manifest.spec
    site = sites.get(tx, spec.site) if spec.site else None
    fields = DatabaseFields(
        server_id=_server(tx, spec.server).id,
        name=spec.name,
        username=spec.username,
        type=spec.engine,
        site_id=site.id if site else None,
    )
    # a replacement that keeps its login keeps that login's password; one that was retained has its own
    shared = [
        row
        for row in databases.all(tx, server_id=fields.server_id)
        if row.manifest_name == manifest.name
        and row.status != "retained"
        and (row.type, row.username) == (fields.type, fields.username)
    ]
    row = databases.upsert(
        tx, manifest.name, fields, databases.password_of(tx, shared[0].id) if shared else None
    )
    if spec.password is not None:
        databases.drop_rotation(tx, row.id)


def confirm_password(tx: Tx, manifest: Database, rendered: Secret | None) -> None:
    """A node has taken what was rendered with this password: if it is a pending one, it is the password from now on."""
    row = database_row(tx, manifest)
    if row is not None and rendered is not None and databases.pending_of(tx, row.id) == rendered:
        databases.end_rotation(tx, row.id)


def database_row(tx: Tx, manifest: Database) -> databases.Database | None:
    """The row of the very database that a manifest describes, by server, engine and name."""
    spec = manifest.spec
    server = servers.get(tx, spec.server)
    found = databases.all(tx, server_id=server.id) if server is not None else []
    return next((row for row in found if (row.type, row.name) == (spec.engine, spec.name)), None)


def keep_only(tx: Tx, name: str, keep: Resource | None, drop: Resource | None = None) -> None:
    """Of the rows under a Database's manifest name only that of `keep` stays in use.

    There are several while a database is replaced, and after a replacement broke off. That of `drop` is removed, any
    other retained: what a node may still have keeps its password.
    """
    kept = database_row(tx, keep) if isinstance(keep, Database) else None
    dropped = database_row(tx, drop) if isinstance(drop, Database) else None
    for row in databases.all(tx):
        if row.manifest_name != name or row.status == "retained" or (kept and row.id == kept.id):
            continue
        if dropped is not None and row.id == dropped.id:
            databases.delete(tx, row.id)
        else:
            databases.set_status(tx, row.id, "retained")


def _put_record(tx: Tx, manifest: SSHKey | User) -> None:
    if isinstance(manifest, User):
        users.upsert(tx, email=manifest.spec.email, name=manifest.spec.display_name or manifest.name)
    elif manifest.spec.public_key is not None:
        public = manifest.spec.public_key
        ssh_keys.upsert(tx, name=manifest.name, public_key=public, fingerprint=_fingerprint(public))


def _fingerprint(public_key: str) -> str:
    """`SHA256:…` as ssh-keygen -l shows it (RFC 4716 has the older MD5 form only)."""
    blob = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(blob).decode("ascii").rstrip("=")


def set_state(tx: Tx, key: Key, state: State, *, suspended: bool = False) -> None:
    """Bring a row's status word up to date; nothing for kinds without one or rows that are gone."""
    match key.kind:
        case Kind.SERVER:
            if server := servers.get(tx, key.name):
                words = {"creating": "provisioning", "ready": "active", "error": "error"}
                servers.set_status(tx, server.id, words[state])  # type: ignore[arg-type]  # the values are ServerStatus
        case Kind.SITE:
            if site := sites.get(tx, key.name):
                done: Literal["active", "suspended"] = "suspended" if suspended else "active"
                sites.set_status(tx, site.id, done if state == "ready" else state)
        case Kind.DATABASE:
            if database := databases.get(tx, key.name):
                databases.set_status(tx, database.id, "active" if state == "ready" else state)
        case _:
            pass


def remove(tx: Tx, key: Key, before: Resource | None, *, retained: bool) -> None:
    """Remove the row of a resource that is gone; a retained database keeps its row, marked so."""
    match key.kind:
        case Kind.SERVER:
            if server := servers.get(tx, key.name):
                servers.delete(tx, server.id)
        case Kind.SITE:
            if site := sites.get(tx, key.name):
                sites.delete(tx, site.id)
        case Kind.DATABASE:
            keep_only(tx, key.name, None, None if retained else before)
        case Kind.SSH_KEY:
            if ssh_key := ssh_keys.get(tx, key.name):
                ssh_keys.delete(tx, ssh_key.id)
        case Kind.USER | Kind.ROLLOUT | Kind.DEFAULTS:
            pass  # a person stays: deployments name them; a rollout has no row


def rename(tx: Tx, kind: Kind, old: str, new: str) -> None:
    """Give the row of a renamed resource its new name."""
    match kind:
        case Kind.SERVER:
            if server := servers.get(tx, old):
                servers.rename(tx, server.id, new)
        case Kind.SITE:
            if site := sites.get(tx, old):
                sites.rename(tx, site.id, new)
        case Kind.DATABASE:
            for row in databases.all(tx):
                if row.manifest_name == old and row.status != "retained":
                    databases.rename(tx, row.id, new)
        case Kind.SSH_KEY:
            if ssh_key := ssh_keys.get(tx, old):
                ssh_keys.rename(tx, ssh_key.id, new)
        case Kind.USER | Kind.ROLLOUT | Kind.DEFAULTS:
            pass


def release(tx: Tx, key: Key) -> None:
    """Free the domain of a site that gives it up, for the one that takes it over in the same plan.

    Domains are unique in the table, and which of the two nodes follows first is not known.
    """
    if key.kind is Kind.SITE and (site := sites.get(tx, key.name)):
        _set_domain(tx, site, f"{site.domain} ({ids.new()})")


def take_back(tx: Tx, key: Key, before: Resource) -> None:
    """Give a site that did not follow its domain back, unless another one has it by now."""
    if isinstance(before, Site) and (site := sites.get(tx, key.name)) and site.domain != before.spec.domain:
        try:
            with tx.connection.begin_nested():
                _set_domain(tx, site, before.spec.domain)
        except Conflict:
            pass  # whoever has it has it on a node


def _set_domain(tx: Tx, site: sites.Site, domain: str) -> None:
    fields = {name: getattr(site, name) for name in SiteFields.__dataclass_fields__} | {"domain": domain}
    sites.upsert(tx, site.name, SiteFields(**fields))


def _server(tx: Tx, name: str) -> servers.Server:
    found = servers.get(tx, name)
    if found is None:
        raise StoreFault(f"server {name} is not recorded", hint="apply the Server first, then what is on it")
    return found
