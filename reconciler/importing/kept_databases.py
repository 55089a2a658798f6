"""Databases of a kept bundle, as the Databases that they were rendered from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Database, Kind
from reconciler.importing import fit
from reconciler.importing.draft import Draft, Note
from reconciler.importing.kept import Managed
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Inventory, KeptSection, KeptStep

_HBA = re.compile(r'host(?:ssl)? "([a-z0-9_]+)" "([a-z0-9_]+)" ([0-9A-Fa-f:./]+) ')
_PORTS = {"mariadb": 3306, "postgresql": 5432}
_RENEWED = (
    "its password is not on the node in a form that can be read: the next apply makes a new one and writes it to the "
    ".env of its site"
)


def take(found: Inventory, server: str, known: Fleet, made: Managed) -> dict[str, Database]:
    """The databases by the ids of their sections. What `known` declares is taken from there."""
    sections = {section.id: section for section in found.managed.sections}
    databases: dict[str, Database] = {}
    for section in sections.values():
        if section.id.startswith("Database/"):
            parsed = made.declared(section, known) or _database(section, sections, found, server, made)
            if isinstance(parsed, Database):
                databases[section.id] = parsed
                if parsed.spec.password is None:
                    made.notes.append(Note(section.id, _RENEWED))
    return databases


def remote(databases: Mapping[str, Database]) -> list[tuple[int, str]]:
    """The ports and networks that the databases open by themselves."""
    return [
        (_PORTS[one.spec.engine], network) for one in databases.values() for network in one.spec.remote_access
    ]


def _database(
    kept: KeptSection, sections: Mapping[str, KeptSection], found: Inventory, server: str, made: Managed
) -> Database | None:
    steps = {kind: (target, step) for step in reversed(kept.steps) for kind, target in [_split(step)]}
    engine = "mariadb" if "mariadb_database" in steps else "postgresql"
    if f"{engine}_database" not in steps:
        return None
    name, holder = steps[f"{engine}_database"]
    user = steps.get("mariadb_user" if engine == "mariadb" else "postgresql_role", ("", holder))[0]
    user = user.partition("@")[0]
    if not user:
        return None
    spec: dict[str, Json] = {"server": server}
    users = [id_ for id_, section in sections.items() if kept.id in section.needs and id_.startswith("Site/")]
    if users:
        spec["site"] = users[0].partition("/")[2]
    spec |= {"engine": engine, "name": name, "username": user}
    privileges = steps[f"{engine}_grant"][1].values.get("privileges") if f"{engine}_grant" in steps else None
    if privileges not in (None, ["ALL"]):
        spec["privileges"] = privileges
    if networks := _remote(engine, name, user, kept, found):
        spec["remoteAccess"] = networks
    if holder.values.get("adopt"):
        spec["adopt"] = True
    draft = Draft(Kind.DATABASE, kept.id.partition("/")[2], spec)
    parsed = fit.parse(draft)
    if not isinstance(parsed, Database):
        made.notes.append(Note(kept.id, "is no valid manifest any more; write it by hand"))
        return None
    draft.comments.append(
        "Found in what Reconciler applied to the node. Its deletionPolicy, drift and envPrefix are not on the node"
    )
    if not users:
        told = (
            "no site has its login in its .env: if its password stood in the manifest, write it there again"
        )
        made.notes.append(Note(kept.id, told))
    made.drafts.append(draft)
    return parsed


def _split(step: KeptStep) -> tuple[str, str]:
    kind, _, target = step.key.partition(":")
    return kind, target


def _remote(engine: str, name: str, user: str, kept: KeptSection, found: Inventory) -> list[Json]:
    """The networks in the order that the steps have them."""
    if engine == "mariadb":
        head = f"mariadb_user:{user}@"
        hosts = [step.key.removeprefix(head) for step in kept.steps if step.key.startswith(head)]
        return [str(ipaddress.ip_network(host)) for host in hosts]
    return [
        match[3]
        for path, text in found.managed.files.items()
        if path.endswith("/pg_hba.conf")
        for line in text.splitlines()
        if (match := _HBA.match(line)) is not None and (match[1], match[2]) == (name, user)
    ]
