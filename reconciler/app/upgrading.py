"""Upgrading the software of a server: what its repositories offer, the request as records, and carrying it out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.app import planning
from reconciler.app.addresses import Address, require
from reconciler.app.lock import applying
from reconciler.app.settings import Settings
from reconciler.blueprint import software as blueprint
from reconciler.blueprint import upgrading
from reconciler.blueprint.upgrading import Upgrade
from reconciler.converge import access
from reconciler.converge.executor import Executor, Limits, Part
from reconciler.converge.progress import Progress, Result
from reconciler.converge.settle import settle
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean
from reconciler.nodes.answers import Offer
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.plan.manifests import parse
from reconciler.platforms import for_os
from reconciler.record import inventory as record
from reconciler.record import software
from reconciler.store import Store, Tx
from reconciler.store.queries import audit, inventory, servers, software_installations, suspensions


@dataclass(frozen=True)
class Wish:
    """What is to be upgraded on a server: the packages of each piece, the piece's own first. `open` are upgrades that were
    asked for before and did not come to an end yet, of whatever piece: carrying out means these too."""

    server: Server
    fleet: str
    pieces: Mapping[str, tuple[str, ...]]
    open: tuple[Upgrade, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What the node's repositories have for it. `major` are upgrades that are not made by this program, `current` pieces
    of which there is nothing newer."""

    upgrades: tuple[Upgrade, ...]
    major: tuple[Upgrade, ...]
    current: tuple[tuple[str, str], ...]


def wish(tx: Tx, name: str, pieces: Sequence[str]) -> Wish:
    """The wish for a server's `pieces` (`nginx`, `php-8.2`), all that are installed when none is named. UsageFault."""
    address = require(tx, f"Server/{name}")
    entry, row = inventory.get(tx, "Server", name), servers.get(tx, name)
    server = parse(Kind.SERVER, entry.spec) if entry is not None else None
    if entry is None or row is None or not isinstance(server, Server):
        raise UsageFault(f"{address} was not applied yet", hint="reconciler apply")
    _refuse_suspended(tx, server, [address, Address(suspensions.FLEET, entry.fleet)])
    present = [software.spelt(*one) for one in software_installations.present(tx, row.id)]
    known = {
        piece: names
        for piece, names in blueprint.pieces(server, for_os(server.spec.os.value)).items()
        if piece in present
    }
    for piece in pieces:
        if piece not in known:
            hint = did_you_mean(piece, list(known)) or f"`reconciler software list --server {name}` shows it"
            raise UsageFault(f"{piece} is not installed on {address}", hint=hint)
    wanted = {one: known[one] for one in known if not pieces or one in pieces}
    return Wish(server, entry.fleet, wanted, software.upgrading(tx).get(name, ()))


def _refuse_suspended(tx: Tx, server: Server, concerned: Sequence[Address]) -> None:
    held = {(one.kind, one.name) for one in suspensions.listed(tx)}
    found = next((one for one in concerned if (one.kind, one.name) in held), None)
    if found is not None or server.spec.suspend:
        raise UsageFault(
            f"{found or concerned[0]} is suspended, so nothing is upgraded there",
            hint="end that first: `reconciler resume`, or `suspend: false` in its manifest",
        )


def propose(store: Store, wanted: Wish) -> Proposal:
    """Ask the node. Faults of the node; AgentFault `packages` with what its package manager said."""
    target = store.read(lambda tx: access.target(tx, wanted.server))
    names = sorted({name for names in wanted.pieces.values() for name in names})
    return _judge(wanted, asyncio.run(_offers(target, names)) if names else {})


async def _offers(target: Target, names: Sequence[str]) -> Mapping[str, Offer]:
    async with Pool() as pool, pool.node(target) as node:
        return await node.updates(names)


def _judge(wanted: Wish, offers: Mapping[str, Offer]) -> Proposal:
    upgrades, major, current = [], [], []
    for piece, names in wanted.pieces.items():
        newer = {
            name: (offer.installed, offer.available)
            for name in names
            if (offer := offers.get(name)) is not None and offer.available is not None
        }
        if not newer:
            offer = next((offers[name] for name in names if name in offers), None)
            current.append((piece, offer.installed if offer else "not installed"))
        elif any(upgrading.is_major(piece, before, after) for before, after in newer.values()):
            major.append(Upgrade(piece, newer))
        else:
            upgrades.append(Upgrade(piece, newer))
    return Proposal(tuple(upgrades), tuple(major), tuple(current))


def ask(tx: Tx, wanted: Wish, upgrades: Sequence[Upgrade], by: str) -> str:
    """Record that these upgrades are to be made; in the audit log, with those that are open. The server's address.

    UsageFault when it is suspended by now.
    """
    again = wish(tx, wanted.server.name, [one.software for one in upgrades])
    for one in upgrades:
        software.ask_upgrade(tx, again.server.name, one)
    detail = {one.software: list(next(iter(one.packages.values()))) for one in (*wanted.open, *upgrades)}
    audit.append(tx, actor=by, action="upgrade-software", subject=again.server.address, detail=detail)
    return again.server.address


def carry_out(settings: Settings, store: Store, progress: Progress, fleet: str) -> list[Result]:
    """Carry out the upgrades that were asked for in a fleet, without a daemon. StoreBusy, StalePlan; faults of nodes are results."""

    async def work() -> list[Result]:
        async with Pool() as pool:
            await settle(store, pool, progress, settings.apply_within)
            recorded = await store.aread(lambda tx: record.recorded(tx, fleet))
            executor = Executor(store, pool, progress, Limits(settings.nodes_at_once, settings.apply_within))
            part = Part(fleet, lambda tx: record.recorded(tx, fleet), concludes=False)
            return await executor.apply(planning.upgrade(recorded), part=part)

    with applying(settings.state):
        return asyncio.run(work())
