"""`reconciler drift`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from reconciler.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:  # help and completion stay fast
    from reconciler.app.drifting import Looked
    from reconciler.plan.ignore import Expired, Ignored
    from reconciler.plan.model import DriftItem


@click.command(name="drift")
@options.fleet
@options.state
@click.option("--server", "servers", multiple=True, metavar="NAME", help="Only this server; may be repeated.")
@click.option("--heal", is_flag=True, help="Put back what was applied, without applying any new commit.")
@click.option(
    "--write-ignore",
    "rules",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Print rules for spec.drift.ignore that leave this drift alone, or write them into a new FILE.",
)
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Last day of the rules, as YYYY-MM-DD.  [default: in 30 days]",
)
@click.option("--reason", metavar="TEXT", help="Reason in the rules.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when something has drifted.")
@options.output("text", "json")
@options.no_color
def command(  # noqa: PLR0913 - one parameter an option
    fleet: Path,
    subpath: str,
    state: Path,
    servers: tuple[str, ...],
    until: datetime | None,
    reason: str | None,
    rules: str | None,
    *,
    heal: bool,
    detailed_exitcode: bool,
    output: str,
    no_color: bool,
) -> int:
    """Compare the nodes with what was applied, without changing them.

    What `spec.drift` of a resource leaves alone is listed as ignored and is no drift.

    Exit codes: 0, 1 when a node could not be asked, and 2 for drift with --detailed-exitcode.
    """
    _check(rules, heal=heal, json_wanted=output == "json", extra=until is not None or reason is not None)
    from reconciler.app import drifting  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath)
    last_day = drifting.check_rule(until.date() if until else None, reason or "")
    with open_state(settings.state) as store:
        if heal:
            from reconciler.cli.apply import interruptible, report  # noqa: PLC0415
            from reconciler.cli.follow import Follow  # noqa: PLC0415

            with interruptible(), Follow(quiet=output == "json", no_color=no_color) as follow:
                healed = drifting.heal(settings, store, servers or None, follow)
            return report(healed, output, no_color=no_color)
        looked = drifting.look(store, servers or None)
    if rules is not None:
        _write(drifting.rules(settings, looked, last_day, reason or ""), rules)
    elif output == "json":
        click.echo(json.dumps(drifting.as_json(looked), indent=2, ensure_ascii=False))
    else:
        _show(looked)
    for server, why in looked.seen.unreachable.items():
        if output != "json" or rules is not None:
            click.echo(f"{server} could not be asked: {why}", err=True)
    if looked.seen.unreachable:
        return 1
    return 2 if looked.judged.counted and detailed_exitcode else 0


def _check(rules: str | None, *, heal: bool, json_wanted: bool, extra: bool) -> None:
    if rules is None and extra:
        raise click.UsageError("--until and --reason are for rules: give --write-ignore as well")
    if rules is not None and heal:
        raise click.UsageError("--write-ignore leaves drift alone and --heal puts it back: give one of them")
    if rules is not None and json_wanted:
        raise click.UsageError("--write-ignore writes YAML: leave --output json out")


def _write(text: str, target: str) -> None:
    if not text:
        click.echo("No drift, so there is nothing to write a rule for.", err=True)
    elif target == "-":
        click.echo(text, nl=False)
    else:
        try:
            with Path(target).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise click.UsageError(
                f"{target} exists already: name a new file, or - to print the rules"
            ) from None
        except OSError as fault:
            raise click.FileError(target, fault.strerror) from None
        click.echo(f"The rules are in {target}.", err=True)


def _show(looked: Looked) -> None:
    seen, judged = looked.seen, looked.judged
    for item in judged.counted:
        click.echo(_line(item))
        for field, applied, observed in item.changes:
            click.echo(f"    {field}: applied {applied}, now {observed}")
        if item.note:
            click.echo(f"    {item.note}")
    for expired in judged.expired:
        click.echo(_expired(expired), err=True)
    for ignored in judged.ignored:
        click.echo(_ignored(ignored))
    asked, left = len(seen.asked), len(judged.ignored)
    nodes = f"{asked} {'node' if asked == 1 else 'nodes'} asked" + (f", {left} ignored" if left else "")
    if found := len(judged.counted):
        differ = "1 difference" if found == 1 else f"{found} differences"
        click.echo(
            f"\n{differ}; {nodes}. To put back what was applied: reconciler apply, or "
            "(while the daemon runs) reconciler reconcile --all --heal"
        )
    elif asked:
        click.echo(f"No drift: {nodes}.")
    elif not seen.unreachable:
        click.echo("No drift: nothing is applied yet.")


def _line(item: DriftItem) -> str:
    word = {"create": "is missing", "update": "differs", "delete": "should be gone"}.get(
        item.action, item.action
    )
    return f"{item.key} on {item.server}: {item.step} {word}"


def _ignored(found: Ignored) -> str:
    fields = ", ".join(field for field, *_ in found.item.changes) if found.item.action == "update" else ""
    until = f" until {found.until}" if found.until else ""
    reason = f": {found.reason}" if found.reason else ""
    return f"{_line(found.item)}{f' ({fields})' if fields else ''}, ignored{until}{reason}"


def _expired(found: Expired) -> str:
    rule = f"spec.drift.ignore[{found.number}] of {found.item.key}"
    return f"Warning: {rule} expired on {found.rule.until}, so {found.item.step} counts as drift again"
