"""Hours of a daemon's life in played time: pushes, faults of nodes and sources, drift, operators, kills and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bench.soak_faults import FAULTS
from bench.soak_report import Report, Sample, told_defects
from reconciler.app import approving
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind
from reconciler.errors import ReconcilerError
from reconciler.store import Tx
from reconciler.store.queries import conditions, deployments, requests, revisions, suspensions
from reconciler.store.words import RequestVerb
from reconciler.testing import builders
from tests.loop.machine.inline import InlineLoop, without_threads
from tests.loop.machine.stage import Program, Stage
from tests.loop.world import rollout

BAD = "666M"
"""A memory limit with which a site is not healthy."""
_DRIFT = {"mode": "heal", "every": "15m"}
_WAVES = [{"name": "canary", "selector": {"group": "canary"}, "soak": "1m"}]
_WINDOW = {"name": "lunch", "mode": "deny", "start": "13:30", "duration": "20m"}


@dataclass(frozen=True)
class Settings:
    """`seconds` are played; the seconds between two events of a kind are `pace` on average."""

    seconds: float
    seed: int = 1
    servers: int = 6
    sites: int = 3
    traced: bool = False
    steady: bool = False
    """One daemon all along: what grows is its own."""
    pace: Mapping[str, float] = field(
        default_factory=lambda: {
            "push": 180.0, "fault": 300.0, "drift": 240.0, "operator": 600.0, "restart": 2100.0, "source": 2400.0,
        }
    )  # fmt: skip


def files(settings: Settings) -> dict[str, str]:
    """A fleet whose servers follow a rollout with a canary, a soak and a window, and whose drift is healed."""
    made = builders.fleet_files(
        settings.servers, settings.sites, databases=1, labels=["canary", "rest", "rest"]
    )
    made |= rollout(waves=_WAVES, maxUnavailable=3, soak="20s", healthTimeout="1m", windows=[_WINDOW])
    for path, text in made.items():
        if path.startswith(("servers/", "sites/", "databases/")):
            value = yaml.safe_load(text)
            value["spec"]["drift"] = _DRIFT
            made[path] = yaml.safe_dump(value, sort_keys=False)
    return made


def soak(settings: Settings) -> Report:
    """Play it; what came of it."""
    hours = settings.seconds / 3600
    what = f"simulated soak, {hours:.1f} h, {settings.servers} servers x {settings.sites} sites, seed {settings.seed}"
    report = Report(what, min(3600.0, settings.seconds / 3), min(1800.0, settings.seconds / 6))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        stack.enter_context(without_threads())
        loop = InlineLoop(limit=settings.seconds + 86400)
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        if settings.traced:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
        stage = Stage(Path(folder), files(settings), loop, runner)
        stack.enter_context(told_defects(report.stuck))
        stage.play(Soak(stage, settings, report).whole())
    report.wall = time.monotonic() - began
    return report


class Soak:
    """One soak while it lasts."""

    def __init__(self, stage: Stage, settings: Settings, report: Report) -> None:
        self._stage = stage
        self._settings = settings
        self._report = report
        self._chance = random.Random(settings.seed)
        self._program: Program | None = None
        self._bad = ""
        self._added: list[str] = []
        self._number = 0
        stage.faults = self._health
        stage.at_leisure()

    async def whole(self) -> None:
        """From the first converge to the last look."""
        try:
            for node in self._stage.nodes.values():
                node.step_seconds = 0.3
            self._start()
            await self._arrives(self._stage.push())
            await self._hours()
            await self._calm()
        finally:
            await self._stage.close()

    async def _hours(self) -> None:
        """Everything at once, for as long as it is to last."""
        deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "push": self._push, "fault": self._fault, "drift": self._drift,
            "operator": self._operator, "restart": self._restart, "source": self._source,
        }  # fmt: skip
        if self._settings.steady:
            del deeds["restart"]
        tasks = [asyncio.create_task(self._again(name, deed)) for name, deed in deeds.items()]
        began = self._stage.loop.time()
        while (at := self._stage.loop.time() - began) < self._settings.seconds:
            self._sample(at)
            await asyncio.sleep(min(300.0, self._settings.seconds / 24))
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _again(self, name: str, deed: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._settings.pace[name]))
            await deed()
            self._report.happened[name] += 1

    # -- what happens

    def _start(self) -> None:
        self._number += 1
        self._program = made = self._stage.start(f"host:{self._number}:x")
        made.points.seen = deque(maxlen=64)  # type: ignore[assignment]

    async def _restart(self) -> None:
        """The daemon ends, in order or not; the next one comes after a while."""
        gone = self._program
        assert gone is not None
        if self._chance.random() < 0.5:
            await gone.kill()
        else:
            raised = await gone.stop()
            if raised is not None:
                raise raised
        self._stage.programs.clear()
        await asyncio.sleep(self._chance.uniform(1, 90))
        self._start()

    async def _push(self) -> None:
        stage, kind = self._stage, self._chance.random()
        self._mend()
        server = self._chance.randint(1, self._settings.servers)
        if kind < 0.1 and len(self._added) < 12:
            self._number += 1
            name = f"more{self._number}"
            self._added.append(name)
            spec = {"server": f"web{server}", "domain": f"{name}.test", "phpVersion": "8.2", "drift": _DRIFT}
            stage.put("Site", name, spec)
        elif kind < 0.2 and self._added:
            stage.drop("Site", self._added.pop(0))
        elif kind < 0.22 and len(self._added) > 5:  # more than the guard lets pass: an operator approves it
            stage.drop("Site", *self._added)
            self._added.clear()
        else:
            self._change(f"site{server}-{self._chance.randint(1, self._settings.sites)}", bad=kind > 0.93)
        stage.push()
        del stage.source.commits[:-60]

    def _change(self, site: str, *, bad: bool) -> None:
        self._stage.change(
            "Site", site, php={"memoryLimit": BAD if bad else f"{self._chance.randint(64, 600)}M"}
        )
        self._bad = site if bad else ""

    def _mend(self) -> None:
        if self._bad:
            self._change(self._bad, bad=False)

    async def _health(self, declared: Fleet, server: str, **more: Any) -> Mapping[str, str]:
        """The health checks: a site with a bad memory limit fails."""
        return {
            f"Site/{site.name} http": "HTTP 500"
            for site in declared.sites(server)
            if site.spec.php.memory_limit == BAD
        }

    async def _fault(self) -> None:
        """Something is wrong with a node for a while."""
        node = self._chance.choice(sorted(self._stage.nodes.values(), key=lambda node: node.server))
        name = self._chance.choice(sorted(FAULTS))
        self._report.happened[f"fault {name}"] += 1
        with FAULTS[name](node, self._chance):
            await asyncio.sleep(self._chance.uniform(5, 240))

    async def _drift(self) -> None:
        """Somebody removes something from a node by hand."""
        node = self._chance.choice(sorted(self._stage.nodes.values(), key=lambda node: node.server))
        keys = [
            key
            for key in sorted(node.things)
            if key.startswith(("file:/etc/", "symlink:", "directory:/home/"))
        ]
        if keys:
            del node.things[self._chance.choice(keys)]

    async def _source(self) -> None:
        """The git server does not answer for a while."""
        self._stage.source.broken = "connection refused"
        await asyncio.sleep(self._chance.uniform(10, 300))
        self._stage.source.broken = ""

    async def _operator(self) -> None:
        stage, now = self._stage, self._stage.clock()
        server = f"web{self._chance.randint(1, self._settings.servers)}"
        until = now + timedelta(seconds=self._chance.uniform(60, 900))
        match self._chance.choice(
            ("suspend site", "suspend server", "reconcile", "heal", "cancel", "approve")
        ):
            case "suspend site":
                await stage.suspend("Site", f"site{server[3:]}-1", "soak", until)
            case "suspend server":
                await stage.suspend("Server", server, "soak", until)
            case "reconcile":
                await self._ask("reconcile", f"Server/{server}")
            case "heal":
                await self._ask("heal", f"Server/{server}")
            case "cancel":
                await self._ask("cancel", f"Server/{server}")
            case _:
                await self._approve()

    async def _ask(self, verb: RequestVerb, subject: str, **args: object) -> None:
        await self._stage.store.awrite(lambda tx: requests.add(tx, verb, subject, actor="ada", args=args))
        self._stage.nudge()

    async def _approve(self) -> None:
        def unit(tx: Tx) -> None:
            for found in approving.waiting(tx):
                if found.codes:
                    with contextlib.suppress(ReconcilerError):
                        approving.approve(tx, found, approving.chosen(found, ()), "ada")

        await self._stage.store.awrite(unit)
        self._stage.nudge()

    # -- looking

    def _sample(self, at: float) -> None:
        for node in self._stage.nodes.values():  # what the played nodes remember is not the daemon's
            used = {str(thing.get("sha256")) for thing in node.things.values()}
            node.written = {digest: body for digest, body in node.written.items() if digest in used}
            del node.fences[:-10]
            for name in [name for name, journal in node.journals.items() if not journal.running][:-5]:
                del node.journals[name]
        gc.collect()
        folder = self._stage.folder / "state.sqlite"
        figures: dict[str, float] = {
            "resident bytes": int(Path("/proc/self/statm").read_text().split()[1]) * 4096,
            "objects": len(gc.get_objects()),
            "tasks": len(asyncio.all_tasks()),
            "database bytes": sum(path.stat().st_size for path in folder.parent.glob(f"{folder.name}*")),
        }
        if self._settings.traced:
            figures["traced bytes"] = tracemalloc.get_traced_memory()[0]
        self._report.samples.append(Sample(at, figures))

    async def _arrives(self, commit: str, seconds: float = 7200) -> None:
        async def there() -> bool:
            return not await self._stuck(commit)

        with contextlib.suppress(AssertionError):
            await self._stage.until(there, seconds)

    async def _calm(self) -> None:
        """Nothing goes wrong any more; what is stuck after two hours of that is told."""
        stage = self._stage
        stage.source.broken = ""
        for node in stage.nodes.values():
            node.down = node.frozen = node.silent = node.disk_full = False
            node.slow, node.cut_after, node.drop_after, node.failing = 0.0, None, None, set()
        self._mend()
        if self._program is None or self._program.process.dead:
            self._start()
        await stage.store.awrite(
            lambda tx: [suspensions.take_back(tx, one.kind, one.name) for one in suspensions.listed(tx)]
        )
        commit = stage.push()
        for _ in range(
            3
        ):  # whoever looks after it approves what waits, and has drift repaired that happens too often
            await asyncio.sleep(600)
            await self._approve()
            await self._ask("heal", "Fleet/main")
        await self._arrives(commit)
        self._report.stuck += await self._stuck(commit)
        made = await stage.store.aread(lambda tx: deployments.listed(tx, limit=1_000_000))
        self._report.happened["deployments"] = len(made)
        self._report.happened["deployments failed"] = sum(one.status == "failed" for one in made)
        self._report.happened["deployments corrective"] = sum(one.corrective for one in made)
        for one in await stage.store.aread(lambda tx: revisions.listed(tx, limit=1_000_000)):
            self._report.happened[f"revisions {one.status}"] += 1

    async def _stuck(self, commit: str) -> list[str]:
        """Whatever is not at rest at a commit."""

        def unit(tx: Tx) -> list[str]:
            found = [
                f"{c.kind}/{c.name} {c.type}={c.status} {c.reason} {c.message}"
                for c in conditions.listed(tx)
                if (c.status == "True") is not (c.type in ("Ready", "SourceReady", "Reachable"))
            ]
            found += [
                f"deployment of {one.kind}/{one.name} is {one.status}" for one in deployments.unfinished(tx)
            ]
            found += [f"request {one.verb} {one.subject} waits" for one in requests.waiting(tx)]
            for one in revisions.listed(tx, limit=100_000):
                if one.commit == commit and (one.status != "applied" or one.healthy_at is None):
                    found.append(f"the newest revision is {one.status}, {one.healthy_at}")
                elif one.commit != commit and one.status in ("accepted", "applying"):
                    found.append(f"revision {one.commit[:8]} is {one.status}")
            if revisions.get(tx, commit) is None:
                found.append("the newest revision was not accepted")
            return found

        found = await self._stage.store.aread(unit)
        program = self._program
        if program is not None and program.daemon.lease.held:
            found += [f"{key} is worked on" for key in program.daemon.queue.running]
            if program.daemon.queue.depth:
                found.append(f"{program.daemon.queue.depth} keys wait in the queue")
        declared = {
            f"{key.kind.value}/{key.name}"
            for key in builders.load(self._stage.files).entries
            if key.kind is not Kind.USER
        }
        missing = declared - set(await self._stage.recorded())
        return [*found, *(f"{one} is declared, not recorded" for one in sorted(missing))]
