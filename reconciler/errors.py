"""The one exception tree.

A user's mistake in a manifest is never an exception: it is a `Problem` in a list (`reconciler.desired.problems`).
Exceptions are for faults, and each leaf states the reaction that the loop and the command line take.

    ReconcilerError
    ├── UsageFault            stall   the command cannot be carried out as asked (exit 1)
    │   ├── SettingsFault     stall   state directory, key or configuration missing or unusable
    │   │   └── InvalidSettings  stall   the daemon's settings file has problems; carries them
    │   ├── WrongKey          stall   APP_KEY does not open what is stored
    │   ├── SourceFault       stall   the fleet repository or the revision cannot be read
    │   │   ├── SourceEmpty        stall   the repository holds nothing, or not the branch
    │   │   └── SourceUnreachable  retry   no remote of the fleet repository answers
    │   ├── InvalidFleet      stall   manifests have problems; carries them
    │   ├── StalePlan         stall   the saved plan no longer fits the recorded state
    │   └── ApprovalNeeded    stall   a guard stands in the way; carries its findings
    ├── StoreFault
    │   ├── StoreBusy         retry   another writer held the database longer than the time-out
    │   ├── StoreDamaged      stall   the database is unreadable, of another program or of a newer version
    │   ├── Conflict          stall   a unique value is taken (address, domain, fingerprint)
    │   └── LeaseLost         stall   another daemon has taken the database over
    ├── Cancelled             stall   an operator stopped the work
    └── NodeFault                     something about one node; carries its name
        ├── NodeUnreachable   retry   no connection: refused, no route, time-out
        ├── NodeLost          retry   the connection ended before the answer came; the work may go on
        ├── NodeBusy          wait    another apply holds the node's lock
        ├── DeadlinePassed    retry   the answer did not come in time
        ├── AccessDenied      stall   the node refused the key or the sudo rule
        ├── HostKeyMismatch   stall   the node shows another host key than the pinned one
        ├── NotEnrolled       stall   no agent on the node
        ├── Fenced            stall   a newer daemon has taken this node over
        └── AgentFault        stall   the agent answered outside the protocol or with an internal error
            └── Unconfirmed   stall   an earlier change waits to be confirmed; carries its apply
"""

from __future__ import annotations

from typing import ClassVar, Literal

Reaction = Literal["retry", "wait", "stall"]


class ReconcilerError(Exception):
    """Root of the tree. `message` says what and where, `hint` what to do about it; neither holds a secret."""

    reaction: ClassVar[Reaction] = "stall"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageFault(ReconcilerError):
    """The command cannot be carried out as asked."""


class SettingsFault(UsageFault):
    """The state directory, the key or the configuration is missing or unusable."""


class InvalidSettings(SettingsFault):
    """The daemon's settings file has problems. `problems` is the list, in the order of lines."""

    def __init__(self, message: str, problems: tuple[object, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class WrongKey(UsageFault):
    """`APP_KEY` does not open what is stored, or a stored value was altered or moved."""


class SourceFault(UsageFault):
    """The fleet repository or the revision cannot be read."""


class SourceEmpty(SourceFault):
    """The remote answers, but it holds nothing, or has no such branch: never a reason to delete anything."""


class SourceUnreachable(SourceFault):
    """No remote of the fleet repository answers, or none in time."""

    reaction: ClassVar[Reaction] = "retry"


class InvalidFleet(UsageFault):
    """Manifests have problems. `problems` is the list, in the order of files and lines."""

    def __init__(self, message: str, problems: tuple[object, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class StalePlan(UsageFault):
    """A saved plan no longer fits the recorded state it was made from."""


class ApprovalNeeded(UsageFault):
    """A guard stands in the way. `findings` are the guard findings of the plan."""

    def __init__(self, message: str, findings: tuple[object, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class StoreFault(ReconcilerError):
    """Something about the database."""


class StoreBusy(StoreFault):
    """Another writer held the database for longer than the busy time-out."""

    reaction: ClassVar[Reaction] = "retry"


class StoreDamaged(StoreFault):
    """The database is unreadable, belongs to another program, or was written by a newer version."""


class Conflict(StoreFault):
    """A value that must be unique is taken."""


class LeaseLost(StoreFault):
    """Another daemon has taken the database over; this one must not touch nodes any more."""


class Cancelled(ReconcilerError):
    """An operator stopped the work; what a node had begun, it finishes or takes back."""


class NodeFault(ReconcilerError):
    """Something about one node; `server` is its manifest name."""

    def __init__(self, server: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{server}: {message}", hint=hint)
        self.server = server


class NodeUnreachable(NodeFault):
    """No connection: refused, no route, time-out."""

    reaction: ClassVar[Reaction] = "retry"


class NodeLost(NodeFault):
    """The connection ended before the answer came; work on the node may go on."""

    reaction: ClassVar[Reaction] = "retry"


class NodeBusy(NodeFault):
    """Another apply holds the node's lock. `deployment` is its id when the node told it."""

    reaction: ClassVar[Reaction] = "wait"

    def __init__(self, server: str, message: str, *, deployment: str = "", hint: str = "") -> None:
        super().__init__(server, message, hint=hint)
        self.deployment = deployment


class DeadlinePassed(NodeFault):
    """The answer did not come before the deadline."""

    reaction: ClassVar[Reaction] = "retry"


class AccessDenied(NodeFault):
    """The node refused the key, or sudo refused the agent."""


class HostKeyMismatch(NodeFault):
    """The node shows another host key than the pinned one."""


class NotEnrolled(NodeFault):
    """There is no agent on the node, or it cannot start."""


class Fenced(NodeFault):
    """A newer daemon has taken this node over."""


class AgentFault(NodeFault):
    """The agent answered outside the protocol, refused a request or failed inside. `code` is its error code."""

    def __init__(self, server: str, message: str, *, code: str = "internal", hint: str = "") -> None:
        super().__init__(server, message, hint=hint)
        self.code = code


class Unconfirmed(AgentFault):
    """The node will undo what an earlier apply did unless that is confirmed. `deployment` is the id of that apply."""

    def __init__(self, server: str, message: str, *, deployment: str = "", hint: str = "") -> None:
        super().__init__(server, message, code="unconfirmed", hint=hint)
        self.deployment = deployment
