"""The detached runner: carries out one apply from its journal folder, and survives the connection that asked for it."""

import sys
from typing import Any, Dict, List, Optional, Set

from . import (
    atomic,
    blobs,
    bundle,
    cancel,
    canonical,
    guard,
    guarded,
    hashes,
    journal,
    lock,
    outcome,
    places,
    validators,
)
from .bundle import Bundle, Section
from .faults import Refusal, StepFault, cause
from .journal import Journal
from .observe import World
from .pending import Pending
from .scrub import Scrubber
from .section import DATABASES, Context, Log, State, carry_out, fault_text, put_back, tell_done
from .settle import Settler
from .steps import units
from .steps.contract import Run
from .vocabulary import Step

_LOCK_SECONDS = 10.0


class Apply:
    """One apply. Needs the lock; leaves an outcome unless the process dies."""

    def __init__(
        self, deployment: str, wanted: Bundle, ids: Optional[List[str]], confirm_seconds: int
    ) -> None:
        self.deployment = deployment
        self._confirm_seconds = confirm_seconds
        self.bundle = wanted
        self.chosen = wanted.chosen(ids)
        self.scrubber = Scrubber()
        self.journal = Journal(deployment, self.scrubber.clean)
        self.pending = Pending(deployment)
        self.cache = hashes.Cache()
        self.world = World(self._steps(), wanted.package_manager, self.cache, patient=True)
        self.log = Log(self.journal)
        self.started_at = journal.now()
        self._cancel_told = False
        self.states: Dict[str, State] = {}
        self.context = self._context()
        self._inherit()

    def _steps(self) -> List[Step]:
        return [step for section in self.chosen for step in section.steps]

    def _context(self) -> Context:
        run = Run(
            self.deployment,
            self.world,
            self.journal,
            self.scrubber,
            self.log.write,
            self._unit_file_changed,
            self._before_units,
            self._unit_started,
            self._reload_owed,
        )
        wanted: Set[str] = {
            s["name"] for _, s in self.bundle.steps() if s["type"] == "unit" and s.get("active")
        }
        return Context(
            run,
            self.pending,
            self.log,
            self.bundle.demands(),
            wanted,
            {},
            self._needed(),
            list(self.bundle.steps()),
        )

    def _needed(self) -> Set[str]:
        """Sections that another chosen one builds on: by its `needs`, or because it talks to a database server."""
        found: Set[str] = set()
        for place, section in enumerate(self.chosen):
            found.update(section.needs)
            if any(step["type"].startswith(DATABASES) for step in section.steps):
                found.update(earlier.id for earlier in self.chosen[:place])
        return found

    def _inherit(self) -> None:
        """Take over what interrupted applies left: their undo records, and with them the duty to settle them."""
        for section in self.chosen:
            self.states[section.id] = State(section)
        known = {section.id: section for section in self.bundle.sections}
        for deployment in self.pending.inherited:
            for undo in journal.undo_records(deployment):
                if undo.section not in self.states:
                    self.states[undo.section] = State(known.get(undo.section, Section(undo.section, [], [])))
                self.states[undo.section].undo.append(undo)
                path = undo.record.get("path")
                if path:
                    self.context.changed_paths.setdefault(path, set()).add(undo.section)

    def _unit_file_changed(self) -> None:
        self.pending.daemon_reload = True

    def _before_units(self) -> None:
        """Have systemd read changed unit files before it is asked to do something."""
        if not self.pending.daemon_reload:
            return
        message = units.daemon_reload()
        if message:
            raise StepFault(message)
        self.pending.daemon_reload = False
        self.world.forget("units")

    def _unit_started(self, unit: str) -> None:
        self.pending.started(unit)

    def _reload_owed(self, unit: str) -> None:
        """Whether that works is judged at the end, where whoever broke it is found; until then the old files are in use."""
        debt = self.pending.units.get(unit)
        if debt is None:
            return
        self._before_units()
        if not units.control("reload", unit) or debt.action != "restart":
            return
        # One that its package has only just started cannot be told to reload in the way that its new settings say.
        if all(verdict.ok for verdict in validators.run_all(sorted(self.pending.validators)).values()):
            units.control("restart", unit)

    def run(self) -> Dict[str, Any]:
        """Do everything and return the Outcome, which is then on disk."""
        ids = [section.id for section in self.chosen]
        self.journal.event("apply_started", digest=self.bundle.digest, sections=ids)
        self.world.prefetch()
        for section in self.chosen:
            self._section(self.states[section.id])
        settler = Settler(self.states, self.context)
        settler.validate()
        settler.hand_over()
        settler.bring_up()
        settler.reload()
        settler.probe()
        self._guarded(settler)
        try:
            self._before_units()
        except StepFault as fault:
            self.journal.event("log", stream="stderr", text=str(fault) + "\n")
        return self._finish(settler.reloaded)

    def _guarded(self, settler: Settler) -> None:
        """What could lock us out, at the very end."""
        armed: List[str] = []

        def arm() -> None:
            guard.arm(self.deployment, self._confirm_seconds)
            armed.append(self.deployment)
            self.journal.event("armed", seconds=self._confirm_seconds)

        if guarded.carry_out(self.states, self.context, settler, arm):
            guard.settled()
        elif armed:
            guard.disarm()

    def _is_cancelled(self) -> bool:
        """True once a cancel was seen, which is told once."""
        seen = cancel.requested()
        if seen and not self._cancel_told:
            self._cancel_told = True
            self.journal.event("cancelled")
        return seen

    def _section(self, state: State) -> None:
        name = state.section.id
        if self._is_cancelled():
            state.state = "skipped"
            state.message = cancel.CANCELLED
            self.journal.event("section_skipped", section=name, message=state.message)
            return
        failed = [
            n
            for n in state.section.needs
            if n in self.states and self.states[n].state in ("failed", "skipped")
        ]
        if failed:
            state.state = "skipped"
            state.message = "upstream_failed: {}".format(failed[0])
            self.journal.event("section_skipped", section=name, message=state.message)
            return
        self.journal.event("section_started", section=name)
        self.log.begin(name, None)
        try:
            carry_out(state, self.context)
        except (StepFault, OSError) as error:
            state.message = self.scrubber.clean(fault_text(error))
            self.log.end()
            put_back(state, self.context)
            state.state = "failed"
            self.journal.event("section_failed", section=name, message=state.message)
            return
        self.log.end()
        if not state.later and not state.last:
            tell_done(state, self.context)

    def _tell_owed(self, state: State) -> None:
        """A section that was done without its certificate is in place, and has failed: it is to be tried again."""
        if state.owed and state.state not in ("failed", "skipped"):
            state.state = "failed"
            state.message = state.owed
            self.journal.event("section_failed", section=state.section.id, message=state.message)

    def _finish(self, reloaded: List[str]) -> Dict[str, Any]:
        chosen = {section.id for section in self.chosen}
        told = [s for s in self.states.values() if s.section.id in chosen or s.state == "failed"]
        self.cache.save()
        atomic.save_bytes(bundle.KEPT, canonical.dumps(self.bundle.value))
        blobs.clear(self.bundle.bodies())
        for deployment in self.pending.inherited:
            if journal.outcome(deployment) is None and journal.exists(deployment):
                atomic.save_json(
                    journal.folder(deployment) + "/outcome.json", outcome.interrupted(deployment)
                )
        self.pending.settle()
        for state in told:
            self._tell_owed(state)
        cancelled = self._is_cancelled()
        self.journal.event("apply_done")
        versions = self.world.software_versions(self._steps())
        result = outcome.settled(
            self.deployment, told, reloaded, self.started_at, versions, cancelled=cancelled
        )
        result = guard.finished(result)
        self.journal.finish(result)
        for deployment in self.pending.journals:
            if deployment != guard.waiting():
                journal.drop_undo(deployment)
        journal.prune()
        return result


def _bundle_of(deployment: str) -> Bundle:
    found = bundle.load(journal.folder(deployment) + "/bundle.json")
    if found is None:
        raise StepFault("the bundle of deployment {} cannot be read".format(deployment))
    return found


def main(deployment: str) -> int:
    """Entry of `run`: 0 when an outcome was written, 1 when the apply could not begin or broke."""
    try:
        with lock.exclusive(_LOCK_SECONDS):
            if journal.outcome(deployment) is not None or lock.was_started(deployment):
                return 1  # this deployment has had its run; systemd or a user called again
            lock.claim(deployment, started=True)
            try:
                return _run(deployment)
            finally:
                lock.release(deployment)
    except lock.Held:
        sys.stderr.write("another apply is running\n")
        return 1


def _run(deployment: str) -> int:
    wanted = journal.intent(deployment)
    events = Journal(deployment, lambda text: text)
    cancel.watch(deployment)
    if int(wanted["fence"]) < lock.fence() and not cancel.requested():
        events.finish(outcome.crashed(deployment, "a newer daemon has taken this node over", events))
        return 1
    try:
        apply = Apply(deployment, _bundle_of(deployment), wanted["ids"], int(wanted.get("confirm", 120)))
    except (StepFault, Refusal) as fault:
        events.finish(outcome.crashed(deployment, str(fault), events))
        return 1
    except OSError as error:
        events.finish(outcome.crashed(deployment, "cannot begin: {}".format(cause(error)), events))
        return 1
    try:
        apply.run()
    except OSError as error:
        # The journal itself cannot be written (disk full, read-only): stop at once, the intent is on disk.
        message = apply.scrubber.clean(
            "the journal in {} cannot be written: {}".format(places.STATE, cause(error))
        )
        return _give_up(deployment, message, apply)
    except Exception as error:  # noqa: BLE001 (a fault of ours must still leave an outcome)
        message = apply.scrubber.clean("fault of the agent: {}: {}".format(type(error).__name__, error))
        return _give_up(deployment, message, apply)
    return 0


def _give_up(deployment: str, message: str, apply: Apply) -> int:
    sys.stderr.write(message + "\n")
    try:
        apply.journal.finish(outcome.crashed(deployment, message, apply.journal))
    except OSError as error:
        sys.stderr.write("no outcome could be written: {}\n".format(cause(error)))
    return 1
