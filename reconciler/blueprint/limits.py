"""What all programs of a site together may use: a slice of systemd, which each of its units is in."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places, kib
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site


def quota(site: Site, places: Places) -> Iterator[Step]:
    """What the files of the site's user may take, where the manifest says so."""
    if site.spec.limits.disk is not None:
        yield steps.quota(places.user, places.home, kib(site.spec.limits.disk) * 1024)


def configuration(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The slice's file; nothing for a site without units.

    A site without limits has it too, so that no unit has to be started anew when it gets some: systemd puts the new ones
    into force when it reads the file, and starts and ends the slice with what is in it.
    """
    spec = site.spec
    if spec.runs_php or spec.cron or spec.workers or spec.redis or spec.source is not None:
        text = templates.render("systemd/panel-site.slice.j2", {"places": places, "limits": spec.limits})
        yield steps.file(places.slice_file, Body.of(text))
