"""Asks the nodes whether they still show what was applied, without changing them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field

from reconciler.converge import access, assemble, outcomes, session
from reconciler.converge.assemble import NodeState
from reconciler.converge.progress import Progress
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import NodeFault, ReconcilerError
from reconciler.kit import ids
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import CertificateFact, Difference, Hello, RebootFact
from reconciler.nodes.pool import Pool
from reconciler.plan.model import DriftItem
from reconciler.plan.recorded import Recorded
from reconciler.record import age
from reconciler.secrets.redact import Redactor
from reconciler.store import Store

_SHORT = 12
_KEEP_WITHIN = 60.0
"""Seconds for an apply without sections."""


@dataclass
class Observation:
    """What the nodes showed.

    `asked` are the servers that answered, `compared` the resources on them that were looked at; `unreachable` says why
    the other servers did not answer, `unfit` which of those did and are not what their manifest says.
    """

    drift: list[DriftItem] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, session.Unfit] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    compared: set[Key] = field(default_factory=set)
    certificates: dict[str, tuple[CertificateFact, ...]] = field(default_factory=dict)
    """What the servers that answered say of the certificates of their sites."""
    reboots: dict[str, RebootFact] = field(default_factory=dict)
    """Whether the servers that answered, and tell, have to be rebooted."""


class Observer:
    """Compares nodes with the recorded state.

    With `keep` a node that is in sync but remembers another bundle (the one with the last removals, for example) is
    made to remember this one, so that it need not be sent again; nothing else changes on the node.
    """

    def __init__(
        self, store: Store, pool: Pool, progress: Progress, nodes_at_once: int = 16, *, keep: bool = False
    ) -> None:
        self._keep = keep
        self._store = store
        self._pool = pool
        self._progress = progress
        self._gate = asyncio.Semaphore(nodes_at_once)

    async def observe(self, recorded: Recorded, only: Collection[str] | None = None) -> Observation:
        """Ask every recorded server (of `only`) at once. What is suspended, or failed last time, is not compared."""
        fleet = assemble.of_record(recorded)
        nodes = assemble.per_server(fleet)
        known = {key: resource.identity for key, resource in recorded.resources.items()}
        passwords = await self._store.aread(lambda tx: access.passwords(tx, fleet))
        opened = await self._store.aread(lambda tx: age.opened(tx, nodes))
        redact = Redactor([*passwords.values(), *opened.texts])
        result = Observation()

        async def ask(server: Server) -> None:
            sections = _comparable(nodes[server.name], recorded, server.name)
            if not sections:
                return
            fleet = opened.nodes[server.name]
            try:
                async with self._gate:
                    state = assemble.state(
                        server, fleet, known, access.source(passwords), locked=opened.locked
                    )
                    present = {section.id for section in state.bundle.sections}
                    sections = [section for section in sections if section in present]
                    found, hello = await self._ask(state, sections)
            except ReconcilerError as fault:
                if isinstance(fault, session.Unfit):
                    result.unfit[server.name] = fault
                result.unreachable[server.name] = fault.message
            except Exception as fault:  # noqa: BLE001 - the other nodes are asked all the same
                result.unreachable[server.name] = redact(
                    f"a defect of this program: {type(fault).__name__}: {fault}"
                )
            else:
                result.asked.append(server.name)
                result.certificates[server.name] = hello.certificates
                if hello.reboot is not None:
                    result.reboots[server.name] = hello.reboot
                result.compared |= {key for key in nodes[server.name].entries if str(key) in sections}
                result.drift += [_item(server.name, difference) for difference in found]

        async with asyncio.TaskGroup() as group:
            for server in fleet.servers():
                if only is None or server.name in only:
                    group.create_task(ask(server))
        result.drift.sort(key=lambda item: (item.server, item.key, item.step))
        return result

    async def _ask(self, state: NodeState, sections: list[str]) -> tuple[tuple[Difference, ...], Hello]:
        server = state.server
        target = await self._store.aread(lambda tx: access.target(tx, server))
        async with self._pool.node(target) as node:
            hello = await session.introduce(node, state)
            checked = await node.check(state.bundle.digest, sections)
            if checked.known:
                return checked.differences, hello
            # the node keeps another bundle, for example the one with the last removals
            digest = await node.send_bundle(state.bundle.to_json())
            differences = (await node.prepare(digest, sections)).differences
            if self._keep and not differences:
                fence = await self._store.awrite(
                    lambda tx: outcomes.fence(tx, server.name, hello.fence, hello.agent)
                )
                with contextlib.suppress(NodeFault):  # it only saves time; the next look tries again
                    await node.apply(ids.new(), digest, [], fence, within=_KEEP_WITHIN)
            return differences, hello


def _comparable(fleet: Fleet, recorded: Recorded, server: str) -> list[str]:
    """Ids of the sections whose state is known: applied successfully and not suspended."""
    return [
        str(key)
        for key, entry in sorted(fleet.entries.items())
        if recorded.resources[key].server == server
        and key.kind in (Kind.SERVER, Kind.SITE, Kind.DATABASE)
        and not (recorded.resources[key].failed or recorded.resources[key].rotating)
        and not entry.manifest.spec.suspend
    ]


def _item(server: str, difference: Difference) -> DriftItem:
    kind, _, name = difference.section.partition("/")
    return DriftItem(
        key=Key(Kind(kind), name),
        server=server,
        step=difference.key,
        action=difference.action,
        changes=tuple(
            (change.field, _text(change.field, change.after), _text(change.field, change.before))
            for change in difference.changes
        ),
        note=difference.note,
    )


def _text(field_name: str, value: Json) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, str):
        return value[:_SHORT] if field_name == "sha256" else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
