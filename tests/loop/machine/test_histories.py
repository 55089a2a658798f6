"""Whatever happens to daemons, nodes and manifests, in any order: nothing is done twice or unasked, and it all comes right."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reconciler.app import approving
from reconciler.app.config_model import GuardSettings
from reconciler.errors import LeaseLost, ReconcilerError
from reconciler.store import Tx
from reconciler.store.queries import plans, requests, suspensions
from reconciler.store.words import RequestVerb
from reconciler.testing import builders
from tests.loop.machine.stage import Program, Stage, opened

T = TypeVar("T")
SERVERS = ("web1", "web2")
SITES = ("blog", "shop", "wiki")
WHICH = st.integers(0, 1)
NUMBER = st.integers(0, 60)
THEN = st.sampled_from([0.0, 0.0, 1.0, 7.0, 40.0])
"""Seconds that pass after what happened."""


class DaemonHistory(RuleBasedStateMachine):
    """One fleet and the daemons, one or two at a time, that follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = ExitStack()
        self.stage: Stage = self.ends.enter_context(opened(builders.fleet_files(2, 0)))
        _guarded(self.stage)
        self.broken: set[str] = set()

    def teardown(self) -> None:
        try:
            self.everything_comes_right()
        finally:
            self.ends.close()

    def play(self, scene: Awaitable[T]) -> T:
        """Let the time go on for as long as something takes."""
        return self.stage.play(scene)

    def pass_time(self, seconds: float) -> None:
        self.play(asyncio.sleep(seconds))

    def pushed(self, then: float) -> None:
        self.play(self._push())
        self.pass_time(then)

    async def _push(self) -> str:
        return self.stage.push()

    async def _start(self) -> Program:
        return self.stage.start()

    def program(self, number: int) -> Program | None:
        alive = self.stage.alive
        return alive[number % len(alive)] if alive else None

    def declared(self, name: str) -> bool:
        return builders.path_of("Site", name) in self.stage.files and name not in self.broken

    # -- commits

    @initialize()
    def begin(self) -> None:
        self.play(self._start())
        for number, name in enumerate(SITES[:2]):
            self.put(name, SERVERS[number], 2)
        self.pushed(7.0)

    def put(self, name: str, server: str, children: int) -> None:
        spec = {
            "server": server,
            "domain": f"{name}.test",
            "phpVersion": "8.2",
            "php": {"maxChildren": children},
            "drift": {"mode": "heal", "every": "5m"},
        }
        self.stage.put("Site", name, spec)
        self.broken.discard(name)

    @rule(name=st.sampled_from(SITES), which=WHICH, children=st.integers(1, 9), then=THEN)
    def declare_or_move_a_site(self, name: str, which: int, children: int, then: float) -> None:
        self.put(name, SERVERS[which], children)
        self.pushed(then)

    @rule(name=st.sampled_from(SITES), children=st.integers(1, 9), then=THEN)
    def change_a_site(self, name: str, children: int, then: float) -> None:
        if self.declared(name):
            self.stage.change("Site", name, php={"maxChildren": children})
            self.pushed(then)

    @rule(names=st.sets(st.sampled_from(SITES), min_size=1), then=THEN)
    def remove_sites(self, names: set[str], then: float) -> None:
        for name in sorted(names):
            if builders.path_of("Site", name) in self.stage.files:
                self.stage.drop("Site", name)
                self.broken.discard(name)
        self.pushed(then)

    @rule(name=st.sampled_from(SITES), then=THEN)
    def break_a_manifest(self, name: str, then: float) -> None:
        if self.declared(name):
            self.stage.change("Site", name, nonsense=True)
            self.broken.add(name)
            self.pushed(then)

    @rule(then=THEN)
    def mend_the_manifests(self, then: float) -> None:
        for name in sorted(self.broken):
            self.stage.change("Site", name, nonsense=None)
        self.broken.clear()
        self.pushed(then)

    # -- nodes

    @rule(which=WHICH, seconds=st.sampled_from([0.0, 0.5, 3.0]))
    def a_node_is_slow_or_quick(self, which: int, seconds: float) -> None:
        self.stage.node(SERVERS[which]).step_seconds = seconds

    @rule(
        which=WHICH,
        fault=st.sampled_from(["down", "frozen", "silent", "disk_full"]),
        then=st.sampled_from([1.0, 20.0, 90.0]),
    )
    def a_node_is_ill(self, which: int, fault: str, then: float) -> None:
        setattr(self.stage.node(SERVERS[which]), fault, True)
        self.pass_time(then)

    @rule(which=WHICH, name=st.sampled_from(SITES), then=THEN)
    def a_section_fails(self, which: int, name: str, then: float) -> None:
        self.stage.node(SERVERS[which]).failing = {f"Site/{name}"}
        self.pass_time(then)

    @rule(which=WHICH, then=THEN)
    def a_connection_is_cut(self, which: int, then: float) -> None:
        self.stage.node(SERVERS[which]).drop()
        self.pass_time(then)

    @rule(which=WHICH, step=st.integers(0, 30), then=THEN)
    def the_power_goes(self, which: int, step: int, then: float) -> None:
        node = self.stage.node(SERVERS[which])
        if node.running:
            self.play(_at_once(node.power_cut))
        else:
            node.cut_after = step
        self.pass_time(then)

    @rule(then=THEN)
    def nodes_are_mended(self, then: float) -> None:
        for node in self.stage.nodes.values():
            node.down = node.frozen = node.silent = node.disk_full = False
            node.failing, node.cut_after = set(), None
        self.pass_time(then)

    @rule(which=WHICH, then=THEN)
    def somebody_changes_a_node_by_hand(self, which: int, then: float) -> None:
        node = self.stage.node(SERVERS[which])
        if any(key.startswith("file:/etc/panel/fpm/") for key in node.things) and not node.running:
            self.stage.spoil(SERVERS[which], "file:/etc/panel/fpm/")
        self.pass_time(then)

    # -- daemons

    @rule(number=NUMBER, then=THEN)
    def the_daemon_dies_at_a_write(self, number: int, then: float) -> None:
        if (program := self.program(number)) is not None:
            program.points.at = len(program.points.seen) + number
        self.pass_time(then)

    @rule(number=NUMBER)
    def the_daemon_is_killed(self, number: int) -> None:
        if (program := self.program(number)) is not None:
            self.play(program.kill())

    @rule(number=NUMBER)
    def the_daemon_ends_in_good_order(self, number: int) -> None:
        if (program := self.program(number)) is not None:
            raised = self.play(program.stop())
            assert raised is None or isinstance(raised, LeaseLost), raised

    @rule(then=THEN)
    def another_daemon_starts(self, then: float) -> None:
        if len(self.stage.alive) < 2:
            self.play(self._start())
        self.pass_time(then)

    @rule(number=NUMBER, seconds=st.sampled_from([2.0, 10.0, 60.0]))
    def a_daemon_stands_still_for_a_while(self, number: int, seconds: float) -> None:
        if (program := self.program(number)) is not None:
            program.process.freeze()
            self.pass_time(seconds)
            program.process.thaw()
            self.pass_time(1.0)

    # -- people and time

    @rule(
        verb=st.sampled_from(["reconcile", "cancel", "heal"]),
        subject=st.sampled_from(["Server/web1", "Server/web2", "Site/shop", "Fleet/main"]),
        then=THEN,
    )
    def somebody_asks(self, verb: RequestVerb, subject: str, then: float) -> None:
        self.stage.store.write(lambda tx: requests.add(tx, verb, subject, actor="ada"))
        self.play(_at_once(self.stage.nudge))
        self.pass_time(then)

    @rule(
        subject=st.sampled_from([("Server", "web1"), ("Site", "shop"), ("Fleet", "main")]),
        on=st.booleans(),
        then=THEN,
    )
    def somebody_suspends_or_resumes(self, subject: tuple[str, str], *, on: bool, then: float) -> None:
        if on:
            self.play(self.stage.suspend(*subject, "by hand"))
        else:
            self.play(self.stage.resume(*subject))
        self.pass_time(then)

    @rule(then=THEN)
    def somebody_approves(self, then: float) -> None:
        self.approve()
        self.pass_time(then)

    def approve(self) -> None:
        """Approve every plan that waits, as long as that is still to be approved."""

        def unit(tx: Tx) -> None:
            for plan in plans.listed(tx, fleet="main", limit=5):
                if plan.status in ("waiting", "diverged"):
                    with suppress(ReconcilerError):
                        found = approving.find(tx, plan.id)
                        approving.approve(tx, found, approving.chosen(found, ()), "ada")

        self.stage.store.write(unit)
        self.play(_at_once(self.stage.nudge))

    @rule(seconds=st.sampled_from([15.0, 120.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(seconds=st.sampled_from([-7200.0, -30.0, 30.0, 7200.0]))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.stage.clock.jump(seconds)
        self.pass_time(7.0)

    # -- what must hold

    @invariant()
    def nothing_was_done_unasked(self) -> None:
        self.play(self.stage.check())
        for program in self.stage.programs:
            if program.task.done() and not program.process.dead and not program.task.cancelled():
                raised = program.task.exception()
                assert raised is None or isinstance(raised, LeaseLost), raised

    def everything_comes_right(self) -> None:
        """All is mended; then time is all that it takes."""
        stage = self.stage
        for program in stage.alive:
            program.points.at = None
        self.nodes_are_mended(0.0)
        for one in stage.store.read(suspensions.listed):
            self.play(stage.resume(one.kind, one.name))
        for name in sorted(self.broken):
            stage.change("Site", name, nonsense=None)
        self.broken.clear()
        if not stage.alive:
            self.play(self._start())
        self.pass_time(40.0)
        if not stage.alive:  # it had lost its lease
            self.play(self._start())
        commit = self.play(self._push())
        self.pass_time(20.0)
        self.approve()
        self.pass_time(700.0)
        self.approve()
        for server in SERVERS:
            self.somebody_asks("heal", f"Server/{server}", 1.0)
        self.play(stage.comes_right(commit, 4000.0))


async def _at_once(call: Any) -> None:
    call()


def _guarded(stage: Stage) -> None:
    """Already the removal of two sites at once waits for approval."""
    guards = GuardSettings.model_validate({"massDeletion": {"floor": 1}})
    stage.config = replace(stage.config, guards=guards)


TestDaemonHistory = DaemonHistory.TestCase
# The same histories in every run; RECONCILER_HISTORIES=N plays N random ones instead.
_RANDOM = int(os.environ.get("RECONCILER_HISTORIES", "0"))
TestDaemonHistory.settings = settings(
    max_examples=_RANDOM or 25,
    derandomize=not _RANDOM,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    database=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate) + ((Phase.shrink,) if _RANDOM else ()),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of faults are played: nobody reads their records. Other tests do."""
    logger = logging.getLogger("reconciler")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)
