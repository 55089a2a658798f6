"""Watching servers that a rollout reached until they count as healthy, and what it means when they do not."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.loop import rollouts, watching
from reconciler.loop.look import Look, Means
from reconciler.record import inventory
from reconciler.store import Tx
from reconciler.store.queries.rollouts import ServerRollout


class Aftercare:
    """Health checks and soaks."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._store = means.store

    async def watch(self, look: Look) -> bool:
        """Health checks of what the rollout put here; what they mean for the rollout. Whether anything was watched."""
        target, watched = look.target, False
        for name in sorted(look.servers):
            row = await self._watched(look, name)
            if row is None or not (look.arrived or rollouts.is_watched_already(row)):
                continue
            if row.state != "soaking" and await self._behind(look, name):
                continue
            found = await self._means.faults(
                target.loaded.fleet,
                name,
                prober=watching.NodeProber(
                    self._store, self._means.pool, target.loaded.fleet, self._means.collector
                ),
                clock=self._means.clock,
                since=row.changed_at,
                commands=self._means.settings.commands,
                redact=self._means.redact,
            )
            watched = True
            new = [f"{check}: {said}" for check, said in found.items() if check not in row.failing_before]
            await self._conclude(look, name, new)
        return watched

    async def _watched(self, look: Look, name: str) -> ServerRollout | None:
        return await self._store.aread(lambda tx: rollouts.watched(tx, look.target.rollout, name))

    async def _behind(self, look: Look, name: str) -> bool:
        """Whether something on the server is not as the revision wants it."""
        recorded = await self._store.aread(lambda tx: inventory.recorded(tx, look.fleet.name, {name}))
        return any(found.failed and found.server == name for found in recorded.resources.values())

    async def _conclude(self, look: Look, name: str, found: Sequence[str]) -> None:
        fleet, target = look.fleet, look.target
        now = self._means.clock()

        def unit(tx: Tx) -> tuple[rollouts.Step, bool, bool]:
            step = rollouts.checked(tx, target.rollout, name, now, found)
            put_aside = False
            spec = target.rollout.spec(name)
            if step.unhealthy and spec.on_failure == "quarantine" and not target.rollback:
                put_aside = rollouts.quarantine(tx, target.rollout, name, step.unhealthy)
            rollouts.tell(tx, target.rollout)
            return step, put_aside, step.done and rollouts.complete(tx, target.rollout)

        step, put_aside, _ = await self._store.awrite(unit)
        if put_aside:
            await fleet.judge_again()
        elif step.again_after is not None:
            fleet.add(name, "health", step.again_after)
        if step.done or (step.news and not put_aside):
            for other in await self._store.aread(lambda tx: rollouts.pending(tx, target.rollout)):
                fleet.add(other, "rollout")
