"""systemd units: started or stopped, enabled or disabled, in place."""

from typing import Any, Dict, List, Optional

from .. import cancel, process, selinux
from ..faults import StepFault
from ..observe import UnitState, World, show_units
from ..vocabulary import Step
from .contract import Change, Finding, Handler, Run, absent, change

_SECONDS = 300.0
_AT_ONCE = 100


def last_words(unit: str) -> str:
    """The last lines that a unit wrote to the journal, for an error message."""
    argv = ["journalctl", "-u", unit, "-n", "8", "-o", "cat", "--no-pager", "-q"]
    lines = [line.strip() for line in process.run(argv, timeout=20).out.splitlines() if line.strip()]
    return "; ".join(lines[-8:])[-1500:]


def state_of(unit: str) -> UnitState:
    """What systemd says about one unit now. Raises StepFault."""
    return show_units([unit])[unit]


def control(verb: str, unit: str, *options: str, stop: Optional[process.Stop] = None) -> str:
    """`systemctl VERB UNIT`: an empty text, or why it failed. Raises Cancelled when `stop` ended the wait."""
    argv = ["systemctl", "--no-ask-password", *options, verb, "--", unit]
    done = process.run(argv, timeout=_SECONDS, stop=stop)
    if done.ok():
        return ""
    if done.stopped:
        raise cancel.Cancelled()
    message = done.reason("systemctl {} {}".format(verb, unit))
    if verb == "reload" and "denied" in message:
        message += selinux.brake("panel_can_reload_nginx")
    said = last_words(unit) if verb not in ("enable", "disable") else ""
    return "{}; it last said: {}".format(message, said) if said else message


def enable_all(names: List[str]) -> Dict[str, str]:
    """Enable many units at once, without having systemd read them; the failures, by unit."""
    failures: Dict[str, str] = {}
    for some in _portions(names):
        argv = ["systemctl", "--no-ask-password", "--no-reload", "enable", "--", *some]
        if process.run(argv, timeout=_SECONDS).ok():
            continue
        for name in some:  # systemctl stops at the first that it cannot enable
            message = control("enable", name, "--no-reload")
            if message:
                failures[name] = message
    return failures


def start_all(names: List[str], broken: List[str]) -> Dict[str, str]:
    """Start many units at once, those of `broken` although they failed before; the failures, by unit. Raises StepFault.

    Once the apply is cancelled, those that are not up are failures, and stopped.
    """
    failures: Dict[str, str] = {}
    for some in _portions(broken):
        process.run(["systemctl", "--no-ask-password", "reset-failed", "--", *some], timeout=_SECONDS)
    for some in _portions(names):
        if cancel.requested():
            failures.update(dict.fromkeys(some, cancel.CANCELLED))
            continue
        argv = ["systemctl", "--no-ask-password", "start", "--", *some]
        done = process.run(argv, timeout=_SECONDS, stop=cancel.stop_waiting)
        if done.ok():
            continue
        states = show_units(some)
        for name in some:
            if states[name].active in ("active", "reloading"):
                continue
            if done.stopped:
                take_back(name)
                failures[name] = cancel.CANCELLED
                continue
            said = "; ".join(line.strip() for line in done.err.splitlines() if name in line)
            why = said or done.reason("systemctl start {}".format(name))
            failures[name] = "{} did not start: {}; it last said: {}".format(name, why, last_words(name))
    return failures


def take_back(unit: str) -> None:
    """Stop a unit that systemd was asked to start and nobody waits for any more: its job may still be in the queue.

    One that is stopped while it comes up counts as failed, which it did not.
    """
    control("stop", unit)
    control("reset-failed", unit)


def _portions(names: List[str]) -> List[List[str]]:
    return [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]


def daemon_reload() -> str:
    """Have systemd read the unit files again: an empty text, or why it failed."""
    done = process.run(["systemctl", "daemon-reload"], timeout=_SECONDS)
    return "" if done.ok() else done.reason("systemctl daemon-reload")


def _must(verb: str, unit: str) -> None:
    message = control(verb, unit)
    if message:
        raise StepFault(message)


def _wanted(step: Step) -> Dict[str, Optional[bool]]:
    if absent(step):
        return {"active": False, "enabled": False}
    return {"active": step.get("active"), "enabled": step.get("enabled")}


def _changes(state: UnitState, wanted: Dict[str, Optional[bool]]) -> List[Change]:
    now = {"active": state.is_active(), "enabled": state.is_enabled()}
    if wanted["enabled"] is False and state.file_state in ("static", "indirect", "generated", "alias"):
        now["enabled"] = False  # there is nothing to disable
    return [change(f, now[f], wanted[f]) for f in now if wanted[f] is not None and wanted[f] != now[f]]


def _enable(unit: str, run: Run, *, to: bool) -> None:
    """Enable or disable; systemd is told once, together with the next change of a unit file."""
    message = control("enable" if to else "disable", unit, "--no-reload")
    run.on_unit_file()
    if message:
        raise StepFault(message)


class Units(Handler):
    """`unit`. Reloads and restarts are not done here: they are collected and done once at the end."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare what systemd says."""
        state = world.unit(step["name"])
        changes = _changes(state, _wanted(step))
        if absent(step) and state.active == "failed":
            changes.append(change("active", "failed", "inactive"))  # it would be listed as failed for ever
        if not changes:
            return None
        note = "the unit failed" if state.active == "failed" else ""
        if state.load == "not-found":
            note = "the unit file is not there yet"
        return Finding("delete" if absent(step) else "update", changes, note)

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Whether it ran and was enabled."""
        state = run.world.unit(step["name"])
        return {"unit": step["name"], "active": state.is_active(), "enabled": state.is_enabled()}

    def apply(self, step: Step, run: Run) -> None:
        """Enable before starting, stop before disabling. Raises StepFault with the unit's last words."""
        name = step["name"]
        run.before_units()
        state = run.world.unit(name)
        changes = _changes(state, _wanted(step))
        for item in sorted(changes, key=lambda c: (c["field"] == "enabled") != bool(c["to"])):
            self._set(item, name, state, run)
        if absent(step) and state.active == "failed":
            control("reset-failed", name)
        run.world.forget("units", "mariadb", "postgresql")
        active = _wanted(step)["active"]
        if active is not None and run.world.unit(name).is_active() != active:
            verb = "come up" if active else "stop"
            raise StepFault("{} did not {}; it last said: {}".format(name, verb, last_words(name)))

    def _set(self, item: Change, name: str, state: UnitState, run: Run) -> None:
        field, to = item["field"], item["to"]
        if field == "enabled":
            _enable(name, run, to=to)
        elif not to:
            _must("stop", name)
            control("reset-failed", name)  # it may be gone by now, or never have failed
        else:
            if state.active == "failed":
                control("reset-failed", name)
            self._start(name)
            run.on_unit_start(name)

    def _start(self, name: str) -> None:
        try:
            message = control("start", name, stop=cancel.stop_waiting)
        except cancel.Cancelled:
            take_back(name)
            raise
        if message:
            raise StepFault(message)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Back to what it was, as far as it can be."""
        name = record["unit"]
        run.before_units()
        run.world.forget("units")
        state = run.world.unit(name)
        wanted: Dict[str, Optional[bool]] = {"active": record["active"], "enabled": record["enabled"]}
        messages = []
        for item in _changes(state, wanted):
            verbs = {"enabled": ("disable", "enable"), "active": ("stop", "start")}[item["field"]]
            messages.append(control(verbs[bool(item["to"])], name))
        run.world.forget("units")
        if any(messages):
            raise StepFault("; ".join(message for message in messages if message))
        return True
