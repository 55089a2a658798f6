"""All sections of a node, in the order of application, and the bundle made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reconciler.blueprint import database, selinux, server, site
from reconciler.blueprint.model import Bundle, Section
from reconciler.blueprint.places import is_account
from reconciler.blueprint.templates import Templates, shipped
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Database, Kind, Server, Site
from reconciler.desired.kinds.secrets import clear
from reconciler.kit.secret import MASK, Secret
from reconciler.platforms import for_os
from reconciler.selinux import mcs

SecretSource = Callable[[Key, str], Secret]
"""Gives a resource's secret by the name of its field: `(Key(Kind.DATABASE, "shop-db"), "password")`."""

Identities = Mapping[Key, Mapping[str, str]]
"""What was allocated to resources: `{Key(Kind.SITE, "shop"): {"system_user": "web1"}}`."""


def masked(key: Key, field: str) -> Secret:
    """The secret source of plans: every secret is `•••`.

    Steps rendered with it are the *plan form*: they hold no secret, are the same every time, and differ from the
    real ones only in the digests and sizes of secret bodies.
    """
    return Secret(MASK)


def sections(
    server_: Server,
    fleet: Fleet,
    identities: Identities,
    secrets: SecretSource,
    *,
    templates: Templates | None = None,
) -> tuple[Section, ...]:
    """The sections of a server's node: its own, then its databases', then its sites', each kind by name.

    `identities` must hold the system user of every site of the server. Raises ValueError when it does not, or when
    a value cannot stand in the configuration file it is meant for.
    """
    templates = templates or shipped()
    platform = for_os(server_.spec.os.value)
    databases = list(fleet.databases(server_.name))
    passwords = {found.name: _password(found, secrets) for found in databases}
    of_site: dict[str, list[tuple[Database, Secret]]] = {}
    made = [server.section(server_, fleet, platform, templates, databases)]
    for found in databases:
        made.append(database.section(found, passwords[found.name]))
        if found.spec.site is not None:
            of_site.setdefault(found.spec.site, []).append((found, passwords[found.name]))
    for one in fleet.sites(server_.name):
        user = _system_user(one, identities)
        level = selinux.Level.of(server_, platform, _mcs_id(one, user, identities))
        made.append(site.section(one, server_, user, of_site.get(one.name, ()), platform, templates, level))
    return tuple(made)


def _password(found: Database, secrets: SecretSource) -> Secret:
    """The one of the manifest, else the generated one."""
    if found.spec.password is not None:
        return clear(found.spec.password)
    return secrets(Key(Kind.DATABASE, found.name), "password")


def _system_user(found: Site, identities: Identities) -> str:
    user = identities.get(Key(Kind.SITE, found.name), {}).get("system_user")
    if user is None:
        raise ValueError(f"{found.address} has no system user yet")
    if not is_account(user):
        raise ValueError(f"{found.address}: {user!r} is not a system user's name")
    return user


def _mcs_id(found: Site, user: str, identities: Identities) -> str | None:
    given = identities[Key(Kind.SITE, found.name)].get("mcs_id")
    if given is not None:
        return given
    number = mcs.of_user(user)  # a site from before there were levels
    return None if number is None else str(number)


def bundle(
    server_: Server,
    fleet: Fleet,
    identities: Identities,
    secrets: SecretSource,
    *,
    removals: Sequence[Section] = (),
    templates: Templates | None = None,
) -> Bundle:
    """The bundle of a server's node. Raises as `sections`.

    `removals` are sections of undoing steps (`reconciler.blueprint.removals`) under the addresses of their resources.
    Those of a resource that stays run before its other steps; those of a resource that goes run after the server's
    section, in the order given. A removal of something that another section now has is left out: when a domain
    moves from one site to another, so does its virtual host.
    """
    wanted = sections(server_, fleet, identities, secrets, templates=templates)
    present = {step.key for section in wanted for step in section.steps}
    undo = [
        replace(section, steps=tuple(step for step in section.steps if step.key not in present))
        for section in removals
    ]
    staying = {section.id for section in wanted}
    first = {section.id: section.steps for section in undo if section.id in staying}
    gone = [section for section in undo if section.id not in staying and section.steps]
    merged = [replace(section, steps=(*first.get(section.id, ()), *section.steps)) for section in wanted]
    platform = for_os(server_.spec.os.value)
    return Bundle(server_.name, platform.package_manager, (merged[0], *gone, *merged[1:]))
