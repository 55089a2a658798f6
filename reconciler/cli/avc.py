"""`reconciler avc`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.denials import Shown
    from reconciler.selinux.audit import Denial
    from reconciler.store import Tx

_WIDE = 60
"""Characters of a path in the table; the rest of its beginning is left out."""


@click.command(name="avc")
@options.state
@click.option("--server", metavar="NAME", help="Only of this server.")
@click.option("--site", metavar="NAME", help="Only of this site.")
@click.option(
    "--since",
    metavar="TIME",
    help="All since then: a length of time such as 1h, or a time such as 2026-01-31T12:00; else the newest 50.",
)
@click.option("--explain", is_flag=True, help="Say of each why it happened and what would change it.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the output.",
)
@options.no_color
def command(
    state: Path,
    server: str | None,
    site: str | None,
    since: str | None,
    output: str,
    *,
    explain: bool,
    no_color: bool,
) -> None:
    """Show what SELinux refused on the servers, newest first.

    Equal denials of an hour are one row with their COUNT. WHO is the domain and the command that asked, WHAT is what it
    asked for, ON is what it was about and its type. The daemon collects them; times are UTC.
    """
    from reconciler.app import denials  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415 - as above

    after = _time(since)

    def unit(tx: Tx) -> tuple[list[Shown], list[str]]:
        at = tx.now - after if isinstance(after, timedelta) else after
        found = denials.listed(tx, denials.Wanted(server, site, at, explained=explain))
        return found, denials.without_log(tx)

    with open_state(state.absolute()) as store:
        found, unknown = store.read(unit)
    if output == "json":
        click.echo(json.dumps([as_json(one) for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("No denials.")
    elif explain:
        _explained(found)
    else:
        from reconciler.cli import tables  # noqa: PLC0415 - as above

        headings = ("COUNT", "LAST", "SERVER", "SITE", "WHO", "WHAT", "ON")
        tables.show(headings, [_row(one) for one in found], no_color=no_color)
    if unknown and site is None and (server is None or server in unknown):
        names = ", ".join(unknown if server is None else [server])
        click.echo(f"Without an audit log, so that nothing is known of them: {names}", err=True)


def as_json(one: Shown) -> dict[str, object]:
    """A row as an object; the fields of a denial are null for records that were lost."""
    denial = one.denial
    value: dict[str, object] = {
        "id": one.id,
        "server": one.server or None,
        "site": one.site or None,
        "count": one.count,
        "first": _iso(one.first_at),
        "last": _iso(one.last_at),
        "kind": denial.kind if denial else "gap",
        "verdict": denial.verdict if denial else None,
        "permissive": denial.permissive if denial else None,
        "command": denial.comm if denial else None,
        "exe": denial.exe if denial else None,
        "source": str(denial.source) if denial and denial.source else None,
        "permissions": list(denial.permissions) if denial else None,
        "class": denial.tclass if denial else None,
        "path": (denial.object or None) if denial else None,
        "target": str(denial.target) if denial and denial.target else None,
        "message": one.message,
    }
    if one.explanation is not None:
        value["explanation"] = {
            "cause": one.explanation.cause,
            "message": one.explanation.said,
            "suggestion": one.explanation.suggestion or None,
            "advice": one.advice or None,
        }
    return value


def _row(one: Shown) -> tuple[str, ...]:
    from reconciler.cli.events import readable  # noqa: PLC0415 - as above

    head = (str(one.count), one.last_at.strftime("%Y-%m-%d %H:%M:%S"), one.server, one.site)
    denial = one.denial
    if denial is None:
        return (*head, "", "records lost", f"since {one.first_at:%Y-%m-%d %H:%M:%S}")
    about = readable(denial.object)
    short = about if len(about) <= _WIDE else f"…{about[-_WIDE:]}"
    target = denial.target.type if denial.target else ""
    cells = (_who(denial), _what(denial), f"{short} {target}".strip())
    return (*head, *map(readable, cells))


def _who(denial: Denial) -> str:
    domain = denial.source.type if denial.source else "?"
    return f"{domain} {denial.comm or denial.exe or ''}".strip()


def _what(denial: Denial) -> str:
    asked = f"{' '.join(denial.permissions)} {denial.tclass}".strip() or denial.kind
    if denial.verdict != "denied":
        return f"{asked} ({denial.verdict})"
    return f"{asked} (allowed: permissive)" if denial.permissive else asked


def _explained(found: list[Shown]) -> None:
    from reconciler.cli.events import readable  # noqa: PLC0415 - as above

    for number, one in enumerate(found):
        if number:
            click.echo()
        denial, when = one.denial, f"{one.first_at:%Y-%m-%d %H:%M:%S}"
        if one.last_at - one.first_at >= timedelta(seconds=1):
            when += f" to {one.last_at:%Y-%m-%d %H:%M:%S}"
        where = ", ".join(
            word for word in (one.server or "a server that is gone", one.site and f"site {one.site}") if word
        )
        if denial is None:
            click.echo(f"{where}, {when}:\n  {readable(one.message)}")
            continue
        on = f"{denial.object} ({denial.target})" if denial.object else f"{denial.target or '?'}"
        click.echo(f"{one.count}x {where}, {when}:")
        click.echo(f"  {readable(f'{_who(denial)}: {_what(denial)}, {on}')}")
        if one.explanation is not None:
            click.echo(f"  {one.explanation.cause}: {readable(one.explanation.said)}")
        if one.advice:
            click.echo(f"  {readable(one.advice)}")


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(given: str | None) -> timedelta | datetime | None:
    """A length of time, or a time; one without a zone is UTC."""
    from reconciler.desired.scalars import seconds  # noqa: PLC0415 - as above

    if given is None:
        return None
    try:
        return timedelta(seconds=seconds(given))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        message = "neither a length of time such as 1h30m nor a time such as 2026-01-31T12:00"
        raise click.BadParameter(f"{given!r} is {message}", param_hint="--since") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
