"""What a played node remembers of one apply: its intent, its events, its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reconciler.kit.canonical import Json
from reconciler.nodes.answers import Event, Outcome, SectionOutcome, SectionState

KEPT = 50
"""Journals that a node keeps."""


@dataclass
class Journal:
    """One apply.

    `alive` while its runner lives; `cancelled` once somebody asked for it to be stopped; `doubt` is the step that was
    begun and of which no result is known. `ring` is called at everything new.
    """

    deployment: str
    sections: Sequence[str]
    now: Callable[[], str]
    ring: Callable[[], None]
    events: list[Event] = field(default_factory=list)
    outcome: Outcome | None = None
    alive: bool = True
    cancelled: bool = False
    doubt: str = ""
    fault: BaseException | None = None
    """A defect of the played node itself; raised at whoever asks."""

    @property
    def running(self) -> bool:
        """Whether the runner is at work."""
        return self.alive and self.outcome is None

    def write(self, kind: str, section: str = "", key: str = "", **data: Json) -> None:
        """The next event; values that are None are left out."""
        told = {name: value for name, value in data.items() if value is not None}
        self.events.append(Event(len(self.events) + 1, self.now(), kind, section, key, told))
        self.ring()

    def finish(self, outcome: Outcome) -> None:
        """The end."""
        self.outcome = outcome
        self.alive = False
        self.ring()

    def answer(self) -> Outcome | None:
        """The outcome; one that is put together from the events when the runner is gone without; None while it runs."""
        if self.fault is not None:
            raise self.fault
        if self.outcome is None and not self.alive:
            return self._interrupted()
        return self.outcome

    def settle(self) -> None:
        """A later apply has taken over what this one, interrupted, had left: its outcome is kept as it is."""
        self.outcome = self.answer()

    def _interrupted(self) -> Outcome:
        found: dict[str, SectionOutcome] = {}
        for event in self.events:
            message = str(event.data.get("message", ""))
            match event.type:
                case "section_started":
                    found[event.section] = _ended("failed", "the apply was interrupted in this section")
                case "section_done":
                    changed = event.data["changed"]
                    assert isinstance(changed, int)  # noqa: S101 - written by us
                    found[event.section] = SectionOutcome("succeeded" if changed else "unchanged", changed)
                case "section_failed":
                    found[event.section] = _ended("failed", message)
                case "section_skipped":
                    found[event.section] = _ended("skipped", message)
                case _:
                    pass
        for name in self.sections:
            found.setdefault(name, _ended("skipped", "the apply was interrupted before this section"))
        return Outcome(
            self.deployment,
            "interrupted",
            found,
            tuple(
                str(e.data["unit"]) for e in self.events if e.type in ("reload", "restart") and e.data["ok"]
            ),
            self.events[0].at if self.events else self.now(),
            self.events[-1].at if self.events else self.now(),
            self.doubt,
            self.cancelled,
        )


def _ended(state: SectionState, message: str) -> SectionOutcome:
    return SectionOutcome(state, 0, message)
