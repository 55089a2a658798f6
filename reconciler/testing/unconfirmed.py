"""What waits on a played node to be confirmed, and is put back by the node when its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reconciler.agent.faults import Refusal
from reconciler.agent.steps.lockout import UNDONE
from reconciler.nodes.answers import Confirmed, Outcome
from reconciler.nodes.conversation import CONFIRM_WITHIN
from reconciler.testing import things
from reconciler.testing.journal import Journal
from reconciler.testing.things import Things, Undo


@dataclass
class Waiting:
    """At most one apply of a node. `seconds` is how long the next one will wait; the time is the running loop's."""

    seconds: int = CONFIRM_WITHIN
    deployment: str = ""
    _things: Things = field(default_factory=dict)
    _undo: Sequence[Undo] = ()
    _journal: Journal | None = None
    _timer: asyncio.TimerHandle | None = None

    def begin(self, deployment: str, on_node: Things, undo: Sequence[Undo]) -> None:
        """Guarded steps are in place; `undo` puts them back. Nothing waits when there are none."""
        if undo:
            self.deployment, self._things, self._undo = deployment, on_node, undo

    def finished(self, outcome: Outcome, journal: Journal) -> Outcome:
        """The outcome of an apply that is over; from here on the time runs."""
        if self.deployment != outcome.deployment:
            return outcome
        self._journal = journal
        self._timer = asyncio.get_running_loop().call_later(self.seconds, self.expire)
        return replace(outcome, confirm="wanted", confirm_seconds=self.seconds)

    def refuse(self) -> None:
        """Raise Refusal for a new apply while an earlier one waits."""
        if self.deployment:
            raise Refusal(
                "unconfirmed",
                f"what deployment {self.deployment} did could have locked the daemon out, and is not confirmed yet",
                "confirm it over a new connection, or wait until the node has undone it",
                {"deployment": self.deployment},
            )

    def confirm(self, journal: Journal) -> Confirmed:
        """The request `confirm`."""
        outcome = journal.outcome
        if self.deployment == journal.deployment:
            self._end()
            if outcome is not None:
                journal.outcome = replace(outcome, confirm="given")
            return "confirmed"
        return "undone" if outcome is not None and outcome.confirm == "undone" else "confirmed"

    def expire(self) -> None:
        """The time is up: put everything back and say so."""
        journal, outcome = self._journal, self._journal.outcome if self._journal else None
        if not self.deployment or journal is None or outcome is None:
            return
        sections = dict(outcome.sections)
        for undo in reversed(self._undo):
            if things.put_back(self._things, undo):
                journal.write("rolled_back", undo.section, undo.key)
            sections[undo.section] = replace(sections[undo.section], state="failed", message=UNDONE)
        self._end()
        state = "failed" if outcome.state == "succeeded" else outcome.state
        journal.outcome = replace(outcome, state=state, sections=sections, confirm="undone")
        journal.ring()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.deployment, self._undo, self._journal, self._timer = "", (), None, None
