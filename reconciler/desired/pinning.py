"""Manifests with the commits that their sources stand at: what is planned and recorded names commits, never branches. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.desired.fleet import Entry, Key, Loaded
from reconciler.desired.kinds import Kind, Site
from reconciler.desired.kinds.source import ApplicationSource, Revision

NOT_LOOKED = "its repository was not asked yet"


@dataclass(frozen=True)
class Pin:
    """What is known of a site's source: for which wish (`wish`), the commit, and what kept a newer one from being found."""

    wish: str
    revision: Revision | None
    fault: str = ""


Pins = Mapping[str, Pin]
"""By the names of sites."""


def wish(source: ApplicationSource) -> str:
    """What a pin is an answer to; another answer is needed when it changes."""
    return f"{source.repository} {source.ref} {source.key or ''}"


def sources(loaded: Loaded) -> dict[str, ApplicationSource]:
    """The sources of all sites that have one, by name."""
    return {
        key.name: entry.manifest.spec.source
        for key, entry in loaded.fleet.entries.items()
        if isinstance(entry.manifest, Site) and entry.manifest.spec.source is not None
    }


def pin(loaded: Loaded, pins: Pins) -> tuple[Loaded, dict[Key, str]]:
    """The manifests with commits in place of branches and tags, and why the sites without one have to wait."""
    found = sources(loaded)
    if not found:
        return loaded, {}
    entries, waiting = dict(loaded.fleet.entries), dict[Key, str]()
    for name, source in found.items():
        key = Key(Kind.SITE, name)
        known = pins.get(name)
        current = known if known is not None and known.wish == wish(source) else None
        if current is None or current.revision is None:
            why = current.fault if current is not None and current.fault else NOT_LOOKED
            waiting[key] = f"spec.source: {why}"
            continue
        entries[key] = _with(entries[key], current.revision)
    return replace(loaded, fleet=replace(loaded.fleet, entries=entries)), waiting


def _with(entry: Entry, revision: Revision) -> Entry:
    site = entry.manifest
    if not isinstance(site, Site) or site.spec.source is None:
        return entry
    source = site.spec.source.model_copy(update={"revision": revision})
    spec = site.spec.model_copy(update={"source": source})
    return replace(entry, manifest=site.model_copy(update={"spec": spec}))
