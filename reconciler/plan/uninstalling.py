"""Guards on software that a server no longer declares: nothing may still use it, and data must not lose its server unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.desired.kinds import Kind
from reconciler.kit.canonical import Json
from reconciler.kit.text import count
from reconciler.plan.kinds import spec_of
from reconciler.plan.model import Action, Change, Finding
from reconciler.plan.recorded import Recorded

_GONE = (Action.DELETE, Action.FORGET)


def in_use(changes: Sequence[Change]) -> Finding | None:
    """Something that stays as it is recorded, because it is suspended, held or invalid, still needs what is to go."""
    users: list[Change] = []
    said: list[str] = []
    for server, dropped in _dropping(changes):
        for change in changes:
            if change.server == server.key.name and change.action not in _GONE:
                needed = _needs(change) & dropped
                users += [change] if needed else []
                said += [f"{piece} of {server.address}" for piece in sorted(needed)]
    if not users:
        return None
    what = ", ".join(dict.fromkeys(said))
    return Finding(
        code="software-in-use",
        message=f"{what} would be removed, and {count(len(users), 'resource')} still needs it."
        if len(users) == 1
        else f"{what} would be removed, and {count(len(users), 'resource')} still need it.",
        blocking=True,
        addresses=tuple(str(change.address) for change in users),
        hint="Declare the software until they have moved; an approval cannot override it.",
        approvable=False,
    )


def of_engines(changes: Sequence[Change], recorded: Recorded) -> Finding | None:
    """A database server goes. Its data stays on the node, which is of no use to whoever misses it."""
    found: list[str] = []
    servers: list[Change] = []
    for server, dropped in _dropping(changes):
        for engine in sorted(dropped & {"mariadb", "postgresql"}):
            kept = [*recorded.retained.get(server.key.name, {}).get(engine, ())]
            kept += _forgotten(changes, server.key.name, engine)
            names = (
                f", with {count(len(kept), 'retained database')} ({', '.join(sorted(kept))})" if kept else ""
            )
            found.append(f"{engine} of {server.address}{names}")
            servers.append(server)
    if not found:
        return None
    return Finding(
        code="engine-removal",
        message=f"{'; '.join(found)}: the database server would be stopped and removed. Its data directory stays on the node.",
        blocking=True,
        addresses=tuple(dict.fromkeys(change.address for change in servers)),
        hint="Approve it if nobody needs what is in it; declared again, the engine finds its data.",
    )


def _dropping(changes: Sequence[Change]) -> Iterator[tuple[Change, frozenset[str]]]:
    """The servers that lose software, each with what goes, as records name it."""
    for change in changes:
        if change.key.kind is Kind.SERVER and change.action not in _GONE and change.before is not None:
            dropped = _software(change.before) - _software(change.after)
            if dropped:
                yield change, dropped


def _software(manifest: Mapping[str, Json] | None) -> frozenset[str]:
    spec = spec_of(manifest)
    software, engines = spec.get("software"), spec.get("databaseEngines")
    php = software.get("php") if isinstance(software, Mapping) else ()
    found = [f"php-{version}" for version in php] if isinstance(php, list | tuple) else []
    if isinstance(software, Mapping) and software.get("redis") is True:
        found.append("redis")
    return frozenset([*found, *map(str, engines if isinstance(engines, list | tuple) else ())])


def _needs(change: Change) -> frozenset[str]:
    spec = spec_of(change.after)
    if change.key.kind is Kind.SITE:
        php = [f"php-{spec['phpVersion']}"] if spec.get("phpVersion") else []
        return frozenset([*php, *(["redis"] if spec.get("redis") is not None else [])])
    return frozenset({str(spec.get("engine"))}) if change.key.kind is Kind.DATABASE else frozenset()


def _forgotten(changes: Sequence[Change], server: str, engine: str) -> list[str]:
    """The databases that this plan retains on the server."""
    return [
        str(spec_of(change.before).get("name"))
        for change in changes
        if change.key.kind is Kind.DATABASE
        and change.action is Action.FORGET
        and change.server == server
        and spec_of(change.before).get("engine") == engine
    ]
