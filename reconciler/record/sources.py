"""Pins of sites' sources from the database, as planning takes them."""

from __future__ import annotations

from reconciler.desired.kinds.source import Revision
from reconciler.desired.pinning import Pin
from reconciler.store import Tx
from reconciler.store.queries import site_sources


def pins(tx: Tx) -> dict[str, Pin]:
    """What is known of every site's source, by its name."""
    found = {}
    for name, known in site_sources.every(tx).items():
        counts = known.revision
        revision = (
            Revision.model_construct(commit=counts.commit, archive=counts.archive, size=counts.size)
            if counts is not None
            else None
        )
        found[name] = Pin(known.wish, revision, known.fault)
    return found
