"""What is owed once files have changed: validators to run, units to reload or restart.

Written before the first change that causes it and removed when it is done. If the runner dies in between, the next
apply finds it, together with the undo records of the dead one, and settles it.
"""

import json
from typing import Any, Dict, List, NamedTuple, Set

from . import atomic, places
from .journal import crash_point

PATH = places.STATE + "/pending.json"


class UnitDebt(NamedTuple):
    """A unit that must be reloaded or restarted, and the sections that asked for it."""

    action: str
    sections: Set[str]


class Pending:
    """The debts of this apply and of the interrupted ones before it. `journals` names them, the oldest first."""

    def __init__(self, deployment: str) -> None:
        self.journals: List[str] = []
        self.units: Dict[str, UnitDebt] = {}
        self.validators: Dict[str, Set[str]] = {}
        self.daemon_reload = False
        kept = atomic.load_json(PATH)
        if isinstance(kept, dict):
            self.journals = list(kept["journals"])
            self.units = {n: UnitDebt(u["action"], set(u["sections"])) for n, u in kept["units"].items()}
            self.validators = {name: set(sections) for name, sections in kept["validators"].items()}
            self.daemon_reload = bool(kept["daemon_reload"])
        self.inherited = [journal for journal in self.journals if journal != deployment]
        self.journals = [*self.inherited, deployment]
        self._saved = self._value()
        self._owed = isinstance(kept, dict)

    def _value(self) -> Dict[str, Any]:
        return {
            "journals": self.journals,
            "units": {n: {"action": u.action, "sections": sorted(u.sections)} for n, u in self.units.items()},
            "validators": {name: sorted(sections) for name, sections in self.validators.items()},
            "daemon_reload": self.daemon_reload,
        }

    def ask_unit(self, unit: str, action: str, section: str) -> None:
        """A section wants a unit reloaded or restarted; a restart swallows a reload."""
        debt = self.units.get(unit, UnitDebt(action, set()))
        stronger = "restart" if "restart" in (debt.action, action) else "reload"
        self.units[unit] = UnitDebt(stronger, debt.sections | {section})

    def ask_validator(self, validator: Dict[str, Any], section: str) -> None:
        """A section changed a file that a validator must accept."""
        name = json.dumps(validator, sort_keys=True)
        self.validators[name] = self.validators.get(name, set()) | {section}

    def started(self, unit: str) -> None:
        """A unit was started just now, so it has read everything written so far."""
        self.units.pop(unit, None)

    def withdraw(self, section: str) -> None:
        """A section was put back: it asks for nothing any more."""
        units = {}
        for name, debt in self.units.items():
            left = debt.sections - {section}
            if left:
                units[name] = UnitDebt(debt.action, left)
        self.units = units
        self.validators = {n: s - {section} for n, s in self.validators.items() if s - {section}}

    def save(self) -> None:
        """Write it down, durably, if it is not yet as it is on disk."""
        value = self._value()
        if self._owed and value == self._saved:
            return
        crash_point()
        atomic.save_json(PATH, value)
        crash_point()
        self._saved = value
        self._owed = True

    def settle(self) -> None:
        """Everything is done: nothing is owed any more."""
        crash_point()
        atomic.forget(PATH)
        self._owed = False


def owed() -> Dict[str, Any]:
    """What an interrupted apply left undone, empty when nothing. For checks."""
    kept = atomic.load_json(PATH)
    return kept if isinstance(kept, dict) else {}
