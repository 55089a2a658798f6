"""How well manifests explain what is on a node: rendered again, and compared with the steps that were applied there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler import blueprint
from reconciler.blueprint import server as sections
from reconciler.blueprint import templates
from reconciler.blueprint.model import Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import Kind, Resource, Server
from reconciler.desired.problems import Source
from reconciler.importing.draft import Draft
from reconciler.kit import canonical
from reconciler.kit.secret import Secret
from reconciler.nodes.inventory import KeptSection
from reconciler.plan import manifests
from reconciler.platforms import for_os
from reconciler.secrets import passwords

_STAND_IN = Secret("x" * passwords.LENGTH)
"""As long as a generated password, so that a `.env` with it is as long as the one on the node."""


def parse(draft: Draft) -> Resource | None:
    """The resource of a draft, or None when its values are none of a manifest."""
    return manifests.parse(draft.kind, draft.value)


def fleet(resources: Sequence[Resource]) -> Fleet:
    """A fleet of these alone."""
    entries = [Entry(resource, Origin(Source(""))) for resource in resources]
    return Fleet({entry.key: entry for entry in entries})


def resources(drafts: Iterable[Draft], known: Fleet) -> list[Resource]:
    """What a server's section depends on: sites and databases among the drafts, and people."""
    listed = [draft for draft in drafts if draft.kind in (Kind.SITE, Kind.DATABASE)]
    return [*(found for found in map(parse, listed) if found is not None), *people(drafts, known)]


def people(drafts: Iterable[Draft], known: Fleet) -> list[Resource]:
    """The Users of the fleet, and those among the drafts."""
    declared: list[Resource] = [e.manifest for key, e in known.entries.items() if key.kind is Kind.USER]
    drafted = [parse(draft) for draft in drafts if draft.kind is Kind.USER]
    return [*declared, *(found for found in drafted if found is not None)]


def server_section(server: Server, beside: Sequence[Resource]) -> Section | None:
    """The section of a server, which holds no secret; None when it cannot be rendered."""
    all_ = fleet([server, *beside])
    databases = list(all_.databases(server.name))
    try:
        platform = for_os(server.spec.os.value)
        return sections.section(server, all_, platform, templates.shipped(), databases)
    except ValueError:
        return None


def rendered(
    server: Server, resources: Sequence[Resource], identities: Mapping[Key, Mapping[str, str]]
) -> dict[str, Section]:
    """The sections by id; none when something cannot be rendered."""

    def secret(key: Key, field: str) -> Secret:
        return _STAND_IN

    return _sections(server, resources, identities, secret)


def plan_form(
    server: Server, resources: Sequence[Resource], identities: Mapping[Key, Mapping[str, str]]
) -> dict[str, Section]:
    """The sections as records have them, every secret masked; none when something cannot be rendered."""
    return _sections(server, resources, identities, blueprint.masked)


def _sections(
    server: Server,
    resources: Sequence[Resource],
    identities: Mapping[Key, Mapping[str, str]],
    secrets: blueprint.SecretSource,
) -> dict[str, Section]:
    try:
        made = blueprint.sections(server, fleet([server, *resources]), identities, secrets)
    except ValueError:
        return {}
    return {section.id: section for section in made}


def differing(section: Section | None, kept: KeptSection) -> list[str]:
    """Keys of steps that are not the same, on either side."""
    if section is None:
        return [step.key for step in kept.steps]
    wanted = {step.key: _digest(step) for step in section.steps if step.params.get("state") != "absent"}
    there = {step.key: step.digest for step in kept.steps}
    return sorted(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))


def _digest(step: Step) -> str:
    """As the agent makes it: without password, and without the digest of a secret body."""
    value = {name: inner for name, inner in step.to_json().items() if name != "password"}
    if value.get("secret"):
        value.pop("sha256", None)
    return canonical.digest(value)
