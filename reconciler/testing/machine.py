"""What is inside a played node: its things, and an agent that answers as docs/protocol.md says. No network, no waiting,
except for the applies, whose runner sleeps on the event loop and goes on without it when the loop ends."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from reconciler.agent import fields
from reconciler.agent.bundle import Bundle
from reconciler.agent.faults import Refusal
from reconciler.agent.steps.lockout import is_guarded
from reconciler.errors import Fenced, NodeBusy
from reconciler.kit.canonical import Json
from reconciler.kit.clock import Clock, stamp
from reconciler.nodes.answers import (
    CancelState,
    CheckResult,
    Confirmed,
    Denials,
    Difference,
    Facts,
    Hello,
    Object,
    Offer,
    Outcome,
    Prepared,
    RebootFact,
    UnitState,
)
from reconciler.nodes.conversation import CONFIRM_WITHIN
from reconciler.nodes.inventory import Inventory
from reconciler.testing import things
from reconciler.testing.applying import Apply
from reconciler.testing.auditing import AuditTrail
from reconciler.testing.course import Debts, Pause, PowerCut, Site, Trouble
from reconciler.testing.journal import KEPT, Journal
from reconciler.testing.things import Things
from reconciler.testing.unconfirmed import Waiting

AGENT = "f" * 64
"""The version of the agent that played nodes and pools agree on."""

DEBIAN_12 = Facts("debian", "12", "", "node", "6.1.0", "x86_64", "apt", "disabled", "boot-1", "machine-1")
NO_SPACE = "no space left on the file system"
_MOST_UNITS = 256
_MOST_PACKAGES = 256
_MOST_DENIALS = 1000


class Machine:
    """The inside of a node. Requests raise Refusal, Fenced and NodeBusy as the agent answers with errors."""

    def __init__(self, address: str, facts: Facts, clock: Clock) -> None:
        self._bells: set[asyncio.Event] = set()
        self.address = address
        self.server = address
        """The name in errors; a pool sets it to that of the manifest."""
        self.facts = facts
        self.reboot = RebootFact()
        self.clock = clock
        self.things: Things = {}
        """What is on it, by step key."""
        self.written: dict[str, bytes] = {}
        """Every body and password that it was given, by sha256."""
        self.unit_states: dict[str, UnitState] = {}
        """How units are doing that do otherwise than their things say."""
        self.audit = AuditTrail(facts.machine_id)
        """Its audit log; it has none until something is written to it."""
        self.found: Inventory | None = None
        """What an import finds on it; None: nothing but the node itself."""
        self.trouble = Trouble()
        self.debts = Debts()
        self.journals: dict[str, Journal] = {}
        self.applied = 0
        """Applies that were begun."""
        self.fences: list[int] = []
        """Their numbers."""
        self.fence = 0
        self.agent = AGENT
        self.step_seconds = 0.0
        """How long each step takes."""
        self.cut_after: int | None = None
        """The power goes after this many steps of the next apply, counted as they are looked at."""
        self._kept: Bundle | None = None
        self._next: Bundle | None = None
        self._blobs: dict[str, bytes] = {}
        self._early: list[str] = []
        self._marks = 0
        self._runner: asyncio.Task[None] | None = None
        self.shut_out: set[str] = set()
        """Digests of bodies with which the node lets nobody in who connects anew, as long as a guarded step has one."""
        self.waiting = Waiting()

    @property
    def failing(self) -> set[str]:
        """Sections and step keys that fail, and `reload:UNIT` for units whose reload does."""
        return self.trouble.failing

    @failing.setter
    def failing(self, failing: set[str]) -> None:
        self.trouble.failing = failing

    @property
    def disk_full(self) -> bool:
        """Nothing can be written on the node."""
        return bool(self.trouble.unwritable)

    @disk_full.setter
    def disk_full(self, full: bool) -> None:
        self.trouble.unwritable = NO_SPACE if full else ""

    @property
    def running(self) -> str:
        """The deployment that is being applied, empty when there is none."""
        return next((name for name, journal in self.journals.items() if journal.running), "")

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How each apply ended, by deployment; those that run are left out."""
        found = ((name, journal.answer()) for name, journal in self.journals.items())
        return {name: outcome for name, outcome in found if outcome is not None}

    def body(self, path: str) -> bytes:
        """What the file at a path holds. KeyError when there is none."""
        return self.written[self.things[f"file:{path}"]["sha256"]]

    def ring(self) -> None:
        """Have whoever waits for the node look again."""
        for bell in self._bells:
            bell.set()

    async def wait_for(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until something about the node has become true; false when the time is up."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while not true():
                    bell.clear()
                    await bell.wait()
                return True
        except TimeoutError:
            return False
        finally:
            self._bells.discard(bell)

    def kill_runner(self) -> None:
        """A running apply is interrupted; everything else stays as it is."""
        for journal in self.journals.values():
            if journal.running:
                journal.alive = False
        runner, self._runner = self._runner, None
        if runner is not None and not runner.done():
            runner.cancel()
        self.ring()

    def restart(self) -> None:
        """The power goes and comes back: a running apply is interrupted, bodies are forgotten, the boot id is another."""
        self.kill_runner()
        number = int(self.facts.boot_id.rpartition("-")[2]) + 1
        self.facts = dataclasses.replace(self.facts, boot_id=f"boot-{number}")
        self._blobs = {}
        self.ring()

    def wipe(self) -> None:
        """Nothing is left on it, and it is another machine."""
        self.restart()
        number = int(self.facts.machine_id.rpartition("-")[2]) + 1
        self.facts = dataclasses.replace(self.facts, machine_id=f"machine-{number}")
        self.things, self.written, self.journals, self.debts = {}, {}, {}, Debts()
        self._kept = self._next = None
        self._early = []
        self.fence = 0

    # requests

    def introduce(self) -> Hello:
        """The request `hello`."""
        kept = self._kept.digest if self._kept else ""
        return Hello(self.agent, "3.11.2", self.facts, kept, self.running, self.fence, reboot=self.reboot)

    def take_bundle(self, value: Mapping[str, Json]) -> str:
        """The request `bundle`."""
        bundle = Bundle(copy.deepcopy(dict(value)))
        if self.disk_full and (self._next is None or self._next.digest != bundle.digest):
            raise Refusal("internal", f"/var/lib/panel/bundle-next.json: {NO_SPACE}")
        self._next = bundle
        return bundle.digest

    def take_blob(self, data: bytes) -> str:
        """The request `blob`."""
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = data
        return digest

    def compare_kept(self, digest: str, sections: Sequence[str] | None) -> CheckResult:
        """The request `check`."""
        if self._kept is None or self._kept.digest != digest:
            return CheckResult(known=False, in_sync=False)
        found, _ = self._compare(self._kept, sections)
        return CheckResult(known=True, in_sync=not found, differences=found)

    def compare_next(self, digest: str, sections: Sequence[str] | None) -> Prepared:
        """The request `prepare`."""
        return Prepared(*self._compare(self._find(digest), sections))

    def stop(self, deployment: str, fence: int) -> CancelState:
        """The request `cancel`."""
        _check(fields.ulid, deployment, "deployment")
        self._admit(fence)
        journal = self.journals.get(deployment)
        if journal is None:
            self._early = [*(name for name in self._early if name != deployment), deployment][-KEPT:]
            return "unknown"
        if journal.outcome is not None:
            return "ended"
        journal.cancelled = True
        self.ring()
        return "stopping" if journal.running else "ended"

    def describe_units(self, names: Sequence[str]) -> Mapping[str, UnitState]:
        """The request `units`."""
        _check(fields.list_of(fields.unit, most=_MOST_UNITS, least=1), list(names), "names")
        return {name: self.unit_states.get(name) or self._unit(name) for name in names}

    def offer(self, names: Sequence[str]) -> Mapping[str, Offer]:
        """The request `updates`. A package is offered a newer version by the `newer` of its thing."""
        _check(fields.list_of(fields.package, most=_MOST_PACKAGES, least=1), list(names), "packages")
        if holder := self.trouble.locked:
            raise Refusal("packages", f"the package manager is locked by {holder}; waited 30 seconds")
        found = {name: self.things.get(f"package:{name}") for name in sorted(names)}
        return {
            name: Offer(things.version_of(thing), thing.get("newer"))
            for name, thing in found.items()
            if thing is not None
        }

    def tell_denials(self, cursor: Object | None, most: int) -> Denials:
        """The request `avc`."""
        _check(fields.number(1, _MOST_DENIALS), most, "most")
        return self.audit.tell(cursor, most, self.clock().timestamp())

    def take_stock(self) -> Inventory:
        """The request `inventory`."""
        return self.found or Inventory(self.facts)

    def _unit(self, name: str) -> UnitState:
        known = f"unit:{name}" in self.things or (
            name.startswith("panel-") and things.unit_file(self.things, name)
        )
        load = "loaded" if known else "not-found"
        if things.unit_state(self.things, name)[0]:
            return UnitState("active", "running", "success", 0, name, load)
        return UnitState("inactive", "dead", "success", 0, name, load)

    def is_shut_out(self) -> bool:
        """Whether what is on the node lets in nobody who connects anew."""
        return any(
            thing.get("sha256") in self.shut_out for key, thing in self.things.items() if is_guarded(key)
        )

    def take_confirmation(self, deployment: str) -> Confirmed:
        """The request `confirm`."""
        _check(fields.ulid, deployment, "deployment")
        journal = self.journals.get(deployment)
        if journal is None:
            raise Refusal("unknown_deployment", f"no deployment {deployment} is known here")
        if journal.running:
            raise NodeBusy(
                self.server, "the apply is not over yet", deployment=deployment, hint="follow it first"
            )
        return self.waiting.confirm(journal)

    def start(
        self,
        deployment: str,
        digest: str,
        sections: Sequence[str] | None,
        fence: int,
        confirm_within: int = CONFIRM_WITHIN,
    ) -> Journal:
        """The request `apply`: the journal to follow. A deployment that is known is not begun again."""
        _check(fields.ulid, deployment, "deployment")
        if deployment in self.journals:
            return self.journals[deployment]
        if fence < self.fence:
            raise self._fenced()
        bundle = self._find(digest)
        ids = None if sections is None else list(sections)
        chosen = [section.id for section in bundle.chosen(ids)]
        if wants := self._compare(bundle, ids)[1]:
            raise Refusal(
                "missing_blobs", "the apply needs bodies that are not here", "", {"wants": list(wants)}
            )
        if self.running:
            text = "another apply is running"
            raise NodeBusy(self.server, text, deployment=self.running, hint="wait for it or follow it")
        self.waiting.refuse()
        self._admit(fence)
        if self.disk_full:
            raise Refusal("internal", f"cannot write the journal in /var/lib/panel: {NO_SPACE}")
        journal = Journal(deployment, chosen, lambda: stamp(self.clock()), self.ring)
        journal.cancelled = deployment in self._early
        self.journals[deployment] = journal
        for old in sorted(self.journals)[:-KEPT]:
            del self.journals[old]
        self.applied += 1
        self.fences.append(fence)
        self.written |= self._blobs
        self.waiting.seconds = confirm_within
        self._launch(journal, bundle, ids)
        return journal

    def _admit(self, fence: int) -> None:
        if fence < self.fence:
            raise self._fenced()
        self.fence = fence

    def _fenced(self) -> Fenced:
        text = f"a newer daemon has taken this node over (fence {self.fence})"
        return Fenced(self.server, text, hint="stop the older daemon, or let this one take the node over")

    def _find(self, digest: str) -> Bundle:
        for bundle in (self._next, self._kept):
            if bundle is not None and bundle.digest == digest:
                return bundle
        raise Refusal("unknown_bundle", f"no bundle {digest[:12]}… is on the node", "send the whole bundle")

    def _compare(
        self, bundle: Bundle, sections: Sequence[str] | None
    ) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
        """Differences, and the sha256 of the bodies that are needed and lacking."""
        found: list[Difference] = []
        wants: list[str] = []
        chosen = bundle.chosen(None if sections is None else list(sections))
        for section in chosen:
            for step in section.steps:
                difference = things.compare(self.things, section.id, step)
                if difference is None:
                    continue
                found.append(difference)
                body = things.body_of(step, difference)
                if body and body not in self._blobs and body not in wants:
                    wants.append(body)
        found += self._owed({section.id for section in chosen})
        return tuple(found), tuple(wants)

    def _owed(self, chosen: set[str]) -> list[Difference]:
        found = []
        for unit, (action, sections) in sorted(self.debts.units.items()):
            for section in sorted(sections & chosen)[:1]:
                note = f"a {action} is still owed since an apply was interrupted"
                found.append(Difference(section, f"unit:{unit}", "update", (), note))
        return found

    # the detached runner

    def _launch(self, journal: Journal, bundle: Bundle, ids: list[str] | None) -> None:
        run = Apply(self._site(journal, bundle), journal, bundle, ids, self.waiting).run()
        self._runner = asyncio.create_task(self._pass_time(journal, run), name=f"apply on {self.address}")
        self._runner.add_done_callback(lambda task: self._end(task, journal, run))

    async def _pass_time(self, journal: Journal, run: Iterator[Pause]) -> None:
        """Carry an apply out, as long as an event loop runs it."""
        try:
            for pause in run:
                if pause.waits:
                    await self.wait_for(lambda: journal.cancelled, pause.seconds)
                elif pause.seconds:
                    await asyncio.sleep(pause.seconds)
                await self._go_on()
        except PowerCut:
            self.restart()

    async def _go_on(self) -> None:
        """Comes back when the machine is not standing still."""

    def _end(self, task: asyncio.Task[None], journal: Journal, run: Iterator[Pause]) -> None:
        """The runner has ended, or its event loop has: then the node goes on, although nobody can see it."""
        if task.cancelled():
            if journal.running:
                with contextlib.suppress(PowerCut):
                    for _ in run:
                        pass
            if journal.running:
                self.restart()
        elif (error := task.exception()) is not None:
            journal.fault = error
            self.ring()

    def _site(self, journal: Journal, bundle: Bundle) -> Site:
        left, self.cut_after = self.cut_after, None

        def before_step(_: str) -> None:
            nonlocal left
            if left is not None and (left := left - 1) < 0:
                raise PowerCut

        def mark() -> int:
            self._marks += 1
            return self._marks

        def finished() -> None:
            self._kept = bundle
            for body in bundle.bodies():
                self._blobs.pop(body, None)
            for other in self.journals.values():
                if other is not journal:
                    other.settle()

        return Site(self.things, self.trouble, self.debts, mark, self.step_seconds, before_step, finished)


def _check(check: fields.Check, value: object, name: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise Refusal("bad_request", f"{name} {error}") from None
