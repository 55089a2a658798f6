"""What one apply carries from its first write to its last: the plan, what it started, what everything came to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.blueprint.model import Step
from reconciler.converge import assemble
from reconciler.converge.assemble import Identities
from reconciler.converge.progress import Progress, Result
from reconciler.converge.verdict import Verdict
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Server
from reconciler.errors import UsageFault
from reconciler.kit.secret import Secret
from reconciler.plan.model import Change, Plan
from reconciler.plan.recorded import Recorded
from reconciler.record.age import Opened
from reconciler.record.deployments import Cause, Started
from reconciler.secrets.redact import Redactor


@dataclass
class Run:
    """One apply.

    `recorded` is the state before it; `fleet` the one that the plan leaves, `nodes` the part of it on each server,
    `servers` also those that are forgotten, `known` what is allocated to each resource and `masked` every resource's
    steps in plan form. `opened` are the `nodes` with what is encrypted in them opened. `applies` is the id of each node's
    apply, `leaving` the steps by key that take software off a server, by its name, `started` the deployment of each resource.
    """

    plan: Plan
    cause: Cause
    recorded: Recorded
    progress: Progress
    fleet: Fleet
    nodes: Mapping[str, Fleet]
    servers: Mapping[str, Server]
    known: Identities
    masked: Mapping[str, tuple[Step, ...]]
    applies: Mapping[str, str] = field(default_factory=dict)
    leaving: Mapping[str, Mapping[str, Step]] = field(default_factory=dict)
    passwords: dict[str, Secret] = field(default_factory=dict)
    opened: Opened = field(default_factory=lambda: Opened({}, {}, ()), repr=False)
    redact: Redactor = field(default_factory=Redactor)
    started: dict[Key, Started] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    since: dict[Key, float] = field(default_factory=dict)

    @staticmethod
    def of(plan: Plan, cause: Cause, recorded: Recorded, progress: Progress) -> Run:
        """The run of a plan. UsageFault when what it leaves cannot be rendered."""
        fleet, known = assemble.after(plan), assemble.identities(plan)
        nodes = assemble.per_server(fleet)
        try:
            masked = assemble.masked_steps(nodes, known)
        except ValueError as fault:
            raise UsageFault(
                f"what the nodes should have cannot be rendered: {fault}", hint="make the plan again"
            ) from fault
        run = Run(plan, cause, recorded, progress, fleet, nodes, assemble.servers_of(plan), known, masked)
        run.leaving = assemble.uninstalls(plan, recorded, masked)
        return run

    def steps(self, change: Change) -> tuple[Step, ...]:
        """What the change's resource has on its node once it is applied, in plan form."""
        return self.masked.get(str(change.key), ())

    def left(self, change: Change) -> tuple[Step, ...]:
        """What the change's resource had before."""
        old = self.recorded.resources.get(change.previous or change.key)
        return old.steps if old is not None else ()

    def begins(self, key: Key, action: str, deployment: str = "") -> None:
        """Work on a resource begins."""
        self.since[key] = time.monotonic()
        self.progress.started(key, action, deployment or self.started[key].id)

    def tell(self, key: Key, action: str, found: Verdict, deployment: str = "") -> None:
        """Keep a result, and show it."""
        now = time.monotonic()
        result = Result(
            key,
            action,
            found.state,
            found.message,
            deployment or self.started[key].id,
            now - self.since.get(key, now),
            found.hint,
        )
        self.results.append(result)
        self.progress.finished(result)

    def succeeded(self, key: Key) -> bool:
        """Whether the resource got where the plan wanted it."""
        return any(result.key == key and result.state == "succeeded" for result in self.results)

    def failed(self, key: Key) -> bool:
        """Whether anything about the resource failed."""
        return any(result.key == key and result.state != "succeeded" for result in self.results)
