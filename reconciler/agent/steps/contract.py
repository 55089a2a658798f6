"""What every type of step can do."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ..journal import Journal
from ..observe import World
from ..scrub import Scrubber
from ..vocabulary import Step

Change = Dict[str, Any]


class Finding(NamedTuple):
    """How the node differs from a step. `body` is the sha256 of a blob that the change needs, if any."""

    action: str
    changes: List[Change]
    note: str = ""
    body: Optional[str] = None

    def difference(self, section: str, key: str) -> Dict[str, Any]:
        """The protocol's Difference."""
        return {
            "section": section,
            "key": key,
            "action": self.action,
            "changes": self.changes,
            "note": self.note,
        }


class Run(NamedTuple):
    """What a step may use while it is applied. `log` takes (stream, text) of programs that talk.

    `reload_owed` has a unit read now what the apply has changed so far, if anything that it reads; the reload at the end
    is done all the same.
    """

    deployment: str
    world: World
    journal: Journal
    scrubber: Scrubber
    log: Callable[[str, str], None]
    on_unit_file: Callable[[], None]
    before_units: Callable[[], None]
    on_unit_start: Callable[[str], None]
    reload_owed: Callable[[str], None]


class Handler:
    """One type of step. `check` has no side effects; `apply` makes true what `check` asks for; `undo` is idempotent."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """The difference, None when in sync. Raises StepFault when the node does not answer."""
        raise NotImplementedError

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """What `undo` will need, taken before the change. Empty when nothing can be put back."""
        return {}

    def apply(self, step: Step, run: Run) -> None:
        """Carry the change out. Raises StepFault, OSError."""
        raise NotImplementedError

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Put the step back; `copies` is the folder of its snapshots. False when that is not possible."""
        return False


def change(field: str, before: Any, after: Any) -> Change:
    """One field that differs."""
    return {"field": field, "from": before, "to": after}


def absent(step: Step) -> bool:
    """True when the step is a removal."""
    return bool(step.get("state", "present") == "absent")
