"""Nodes that exist in memory only and behave as docs/protocol.md says, with faults on demand."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import AgentFault, NodeUnreachable
from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import (
    CheckResult,
    Difference,
    Event,
    Facts,
    FieldChange,
    Hello,
    Outcome,
    Prepared,
    SectionOutcome,
)
from reconciler.nodes.conversation import OnEvent
from reconciler.nodes.target import Target

Things = dict[str, dict[str, Any]]
FACTS = Facts("debian", "12", "", "node", "6", "x86_64", "apt", "disabled", "boot", "machine")


@dataclass
class FakeNode:
    """What is on one node: things by step key. `mark` is given to every user and database when it is made."""

    address: str
    things: Things = field(default_factory=dict)
    down: bool = False
    failing: set[str] = field(default_factory=set)
    cut_after: int | None = None
    """The power goes after this many steps of the next apply, and comes back at once."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    applied: int = 0
    _bundle: dict[str, Any] = field(default_factory=dict)
    _marks: int = 0
    _fence: int = 0

    async def ready(self) -> Hello:
        if self.down:
            raise NodeUnreachable(self.address, "cannot connect")
        return Hello("agent", "3.11", FACTS, "", "", self._fence)

    async def send_bundle(self, bundle: Mapping[str, Any]) -> str:
        self._bundle = copy.deepcopy(dict(bundle))
        keys = [step["key"] for section in bundle["sections"] for step in section["steps"]]
        assert len(keys) == len(set(keys)), "step keys are unique in a bundle"
        return canonical.digest(self._bundle)

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        return CheckResult(known=False, in_sync=False)

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        found = (self._compare(s["id"], step) for s in self._chosen(sections) for step in s["steps"])
        return Prepared(tuple(difference for difference in found if difference is not None), ())

    async def send_blob(self, data: bytes) -> str:
        raise AssertionError("no body is ever wanted here")

    async def apply(
        self,
        deployment: str,
        digest: str,
        sections: Sequence[str] | None,
        fence: int,
        on_event: OnEvent,
        *,
        within: float,
    ) -> Outcome:
        """Do everything at once; what is told may break off, the node's work does not."""
        assert digest == canonical.digest(self._bundle)
        assert fence > self._fence
        assert self.running is False
        self._fence = fence
        self.applied += 1
        outcome = self._carry_out(deployment, self._chosen(sections))
        self.outcomes[deployment] = outcome
        for number, (name, found) in enumerate(outcome.sections.items(), 1):
            await on_event(Event(number, "2026-01-31T12:00:00Z", "section_started", name))
            kind = "section_done" if found.state in ("succeeded", "unchanged") else "section_failed"
            data: dict[str, Json] = {"changed": found.changed, "message": found.message}
            await on_event(Event(number, "2026-01-31T12:00:01Z", kind, name, data=data))
        return outcome

    running = False

    async def status(self, deployment: str, seen: int, on_event: OnEvent, *, within: float) -> Outcome:
        if deployment not in self.outcomes:
            raise AgentFault(self.address, "unknown", code="unknown_deployment")
        return self.outcomes[deployment]

    def _chosen(self, sections: Sequence[str] | None) -> list[dict[str, Any]]:
        known = {section["id"] for section in self._bundle["sections"]}
        assert sections is None or set(sections) <= known, "only sections of the bundle are asked for"
        return [s for s in self._bundle["sections"] if sections is None or s["id"] in sections]

    def _carry_out(self, deployment: str, chosen: list[dict[str, Any]]) -> Outcome:
        done: dict[str, SectionOutcome] = {}
        left, self.cut_after = self.cut_after, None
        for section in chosen:
            before, changed = copy.deepcopy(self.things), 0
            if any(n in done and done[n].state in ("failed", "skipped") for n in section["needs"]):
                done[section["id"]] = SectionOutcome("skipped", 0, "upstream_failed")
                continue
            for step in section["steps"]:
                if left is not None and (left := left - 1) < 0:
                    for late in chosen:
                        done.setdefault(late["id"], SectionOutcome("skipped", 0, "interrupted"))
                    done[section["id"]] = SectionOutcome("failed", 0, "interrupted")
                    return Outcome(deployment, "interrupted", done)
                changed += self._do(step)
            if section["id"] in self.failing:
                self.things = before
                done[section["id"]] = SectionOutcome("failed", 0, "it cannot be done")
            else:
                done[section["id"]] = SectionOutcome("succeeded" if changed else "unchanged", changed)
        failed = any(one.state in ("failed", "skipped") for one in done.values())
        return Outcome(deployment, "failed" if failed else "succeeded", done)

    def _do(self, step: dict[str, Any]) -> bool:
        if self._compare("", step) is None:
            return False
        key, wanted = step["key"], {k: v for k, v in step.items() if k not in ("type", "key")}
        if wanted.get("state") == "absent":
            gone = self.things.pop(key)
            if step["type"] == "user":
                self.things = {k: v for k, v in self.things.items() if f":{gone['home']}/" not in k}
            return True
        if key not in self.things and step["type"] in ("user", "mariadb_database"):
            self._marks += 1
            self.things[key] = {"mark": self._marks}
        self.things[key] = {**wanted, **{k: v for k, v in self.things.get(key, {}).items() if k == "mark"}}
        return True

    def _compare(self, section: str, step: dict[str, Any]) -> Difference | None:
        found = self.things.get(step["key"])
        if step.get("state") == "absent":
            return Difference(section, step["key"], "delete") if found is not None else None
        if found is None:
            return Difference(section, step["key"], "create")
        if step.get("once"):
            return None
        changes = tuple(
            FieldChange(name, found.get(name), value)
            for name, value in step.items()
            if name not in ("type", "key") and found.get(name) != value
        )
        return Difference(section, step["key"], "update", changes) if changes else None


class FakePool:
    """Nodes by address, in place of `reconciler.nodes.pool.Pool`."""

    def __init__(self, nodes: Mapping[str, FakeNode]) -> None:
        self.nodes = nodes

    @contextlib.asynccontextmanager
    async def node(self, target: Target) -> AsyncIterator[FakeNode]:
        node = self.nodes[target.address]
        await node.ready()
        yield node
