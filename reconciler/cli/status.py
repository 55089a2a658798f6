"""`reconciler status`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.status import ResourceStatus


@click.command(name="status")
@click.argument("address", required=False)
@options.state
@options.output("text", "json")
@options.no_color
def command(address: str | None, state: Path, output: str, *, no_color: bool) -> int:
    """Show every resource and its conditions; ADDRESS (Site/shop, or only Site) narrows it.

    Exit code 1 when a resource that is shown is not ready.
    """
    from reconciler.app.status import of_all  # noqa: PLC0415 - help and completion stay fast
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.errors import UsageFault  # noqa: PLC0415
    from reconciler.kit.text import did_you_mean, short  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        everything = store.read(of_all)
    found = [s for s in everything if address in (None, str(s.key), s.key.kind.value)]
    if address and not found:
        known = [str(s.key) for s in everything]
        raise UsageFault(f"nothing is recorded under {address!r}", hint=did_you_mean(address, known))
    if output == "json":
        click.echo(json.dumps([_json(status) for status in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo("Nothing is applied yet. `reconciler plan` shows what an apply would do.")
    else:
        headings = ("RESOURCE", "SERVER", "STATE", "READY", "DRIFTED", "REVISION", "CHANGED", "MESSAGE")
        rows = [
            (
                str(s.key),
                s.server,
                s.state,
                s.ready,
                s.conditions["Drifted"].status if "Drifted" in s.conditions else "",
                short(s.revision, 7),
                _when(s.changed_at),
                s.message,
            )
            for s in found
        ]
        tables.show(headings, rows, no_color=no_color)
    return 0 if all(s.ready == "True" for s in found) else 1


def _when(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _json(status: ResourceStatus) -> dict[str, object]:
    return {
        "address": str(status.key),
        "server": status.server or None,
        "state": status.state or None,
        "revision": status.revision,
        "ready": status.ready,
        "conditions": [
            {
                "type": c.type,
                "status": c.status,
                "reason": c.reason,
                "message": c.message,
                "observedRevision": c.observed_revision,
                "lastTransitionTime": c.last_transition_at.isoformat(),
            }
            for c in status.conditions.values()
        ],
        "lastDeployment": status.last_deployment or None,
    }
