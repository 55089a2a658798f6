"""An inventory becomes an import: a Server, its Sites and Databases, and the report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind
from reconciler.importing import databases, kept_sites, managed, websites
from reconciler.importing.draft import Draft, Import, Note, shown
from reconciler.importing.names import Names
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Host, Inventory, Pool
from reconciler.platforms import NAMES, Platform, for_os, matches

_OURS = re.compile(r"web([1-9][0-9]{0,8})\Z")


@dataclass(frozen=True)
class Wish:
    """What the import is told: the server's name, where it is, and the key that the daemon will log in with."""

    name: str
    address: str
    port: int
    ssh_key: str


def os_of(found: Inventory) -> str | None:
    """The word of `Server.spec.os` for the node, or None for a system that is not managed."""
    facts = found.facts
    return next((name for name in NAMES if not matches(for_os(name), facts.os_id, facts.os_version)), None)


def take(found: Inventory, wish: Wish, fleet: Fleet) -> Import:
    """Manifests of what was found that `fleet` does not declare yet. UsageFault's reasons are told as notes instead."""
    word = os_of(found)
    if word is None:
        system = shown(f"{found.facts.os_id} {found.facts.os_version}".strip(), 60)
        return Import((), (Note("", f"the node runs {system}, which no Server can be"),))
    platform = for_os(word)
    declared = fleet.server(wish.name)
    spec: dict[str, Json] = {"address": wish.address}
    if wish.port != 22:
        spec["port"] = wish.port
    spec |= {"os": word, "sshKey": wish.ssh_key}
    head = Draft(Kind.SERVER, wish.name, spec, comments=["Imported from the node"])
    notes = [Note("", shown(text, 400)) for text in found.notes]
    sections = {section.id: section for section in found.managed.sections}
    kept = sections.get(f"Server/{found.managed.server}")
    ours = managed.Managed()
    if kept is not None:
        ours = managed.take(head, declared, found, kept, platform, fleet)
    hosts = [host for host in found.hosts if not _of_ours(host, found)]
    names = _taken(fleet, ours.drafts)
    domains = _domains(fleet, ours.drafts)
    sites = websites.take(found, hosts, websites.Websites(wish.name, platform), names[Kind.SITE], domains)
    bases = databases.take(
        found.databases, wish.name, names[Kind.DATABASE], _known(fleet, wish.name, ours.drafts)
    )
    if kept is None:
        _complete(head, found, platform, sites, bases)
    notes += [*ours.notes, *sites.notes, *bases.notes, *_rest(found)]
    return Import(
        drafts=(*([] if declared else [head]), *ours.drafts, *sites.drafts, *bases.drafts),
        notes=tuple(dict.fromkeys(notes)),
        known=(*([head] if declared else []), *ours.known),
        adopted=frozenset(ours.fitting),
        managed=kept is not None,
        highest=max((int(m[1]) for m in map(_OURS.match, found.accounts) if m), default=0),
    )


def _complete(
    head: Draft,
    found: Inventory,
    platform: Platform,
    sites: websites.Websites,
    bases: databases.Databases,
) -> None:
    """What a hand-made node needs of its Server."""
    if bases.engines:
        head.spec["databaseEngines"] = sorted(bases.engines)
    if sites.php:
        head.spec["software"] = {
            "php": [version for version in platform.php_versions if version in sites.php]
        }
    kinds = {host.kind for host in found.hosts}
    if kinds == {"caddy"} and platform.caddy is not None:
        head.spec["webServer"] = "caddy"
        text = (
            f"an apply replaces {platform.caddy.config}, which is all of caddy's configuration: keep a copy"
        )
        sites.notes.append(Note(head.address, text))
    if found.facts.selinux != "enforcing":
        head.spec["selinux"] = {"mode": found.facts.selinux}


def _of_ours(host: Host, found: Inventory) -> bool:
    keys = {step.key.partition(":")[2] for section in found.managed.sections for step in section.steps}
    sites = [section for section in found.managed.sections if section.id.startswith("Site/")]
    return host.file in keys if host.kind == "nginx" else any(kept_sites.serves(host, one) for one in sites)


def _taken(fleet: Fleet, drafts: Iterable[Draft]) -> dict[Kind, Names]:
    listed = list(drafts)
    return {
        kind: Names(
            [
                *(key.name for key in (*fleet.entries, *fleet.broken) if key.kind is kind),
                *(draft.name for draft in listed if draft.kind is kind),
            ]
        )
        for kind in (Kind.SITE, Kind.DATABASE)
    }


def _domains(fleet: Fleet, drafts: Iterable[Draft]) -> set[str]:
    known = {host for site in fleet.sites() for host in site.spec.hosts}
    for draft in drafts:
        if draft.kind is Kind.SITE:
            listed = draft.spec.get("aliases", [])
            known |= {str(draft.spec["domain"]), *(map(str, listed) if isinstance(listed, list) else ())}
    return known


def _known(fleet: Fleet, server: str, drafts: Iterable[Draft]) -> set[tuple[str, str]]:
    known = {(found.spec.engine, found.spec.name) for found in fleet.databases(server)}
    return {(str(e), n) for e, n in known} | {
        (str(draft.spec["engine"]), str(draft.spec["name"]))
        for draft in drafts
        if draft.kind is Kind.DATABASE
    }


def _rest(found: Inventory) -> list[Note]:
    notes = []
    if found.httpd.files:
        running = "runs" if found.httpd.running else "is installed"
        text = f"an Apache httpd {running} ({found.httpd.files} files of configuration); its sites are not taken over"
        notes.append(Note("", text))
    used = [address.removeprefix("unix:") for host in found.hosts for address in host.php]
    notes += websites.unused(_unmanaged(found.pools), used)
    return notes


def _unmanaged(pools: Iterable[Pool]) -> list[Pool]:
    return [pool for pool in pools if not pool.file.startswith("/etc/panel/")]
