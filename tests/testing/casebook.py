"""Cases that a node and its agent are put through, whatever plays them: a sequence of requests, each with its answer.

A case is a YAML file. `bodies` are texts by name, `bundles` sections by name in a short form (see `_step`), `play` the
requests. Answers are compared in a short form that leaves out times and names bodies; `"*"` stands for any text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from reconciler.errors import AgentFault, Fenced, NodeBusy
from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import (
    CheckResult,
    Denials,
    Difference,
    Event,
    Hello,
    Object,
    Outcome,
    Prepared,
    UnitState,
)
from reconciler.nodes.conversation import OnEvent
from tests.agent.building import ME, MY_GROUP, archive, sha
from tests.agent.talking import ulid

FOLDER = Path(__file__).with_name("cases")
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITHIN = 60.0


class Conversing(Protocol):
    """What a case asks: `FakeNode`, `Node` and `Conversation` have it."""

    async def hello(self) -> Hello: ...
    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult: ...
    async def send_bundle(self, bundle: Mapping[str, Json]) -> str: ...
    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared: ...
    async def send_blob(self, data: bytes) -> str: ...
    async def cancel(self, deployment: str, fence: int) -> str: ...
    async def units(self, names: Sequence[str]) -> Mapping[str, UnitState]: ...
    async def avc(self, cursor: Object | None, most: int) -> Denials: ...
    async def apply(
        self,
        deployment: str,
        digest: str,
        sections: Sequence[str] | None,
        fence: int,
        on_event: OnEvent | None = None,
        *,
        within: float = WITHIN,
    ) -> Outcome: ...
    async def status(
        self, deployment: str, seen: int = 0, on_event: OnEvent | None = None, *, within: float = WITHIN
    ) -> Outcome: ...


class Player(Protocol):
    """A node to play a case on."""

    async def connect(self) -> Conversing:
        """Another conversation with it."""
        ...

    async def write(self, path: str, body: bytes) -> None:
        """Somebody writes a file, keeping owner and mode of one that is there."""

    async def remove(self, path: str) -> None:
        """Somebody removes a file or a link."""

    async def mkdir(self, path: str) -> None:
        """Somebody makes a folder that a case needs."""

    async def audit(self, *lines: str) -> None:
        """Records are added to the audit log."""

    async def rotate(self) -> None:
        """auditd begins a new file, and removes the oldest of five."""

    async def empty(self) -> None:
        """Somebody empties the newest file of the audit log."""

    async def release(self) -> None:
        """Let a step of `/etc/sudoers.d/` go on that stands still."""

    async def kill(self) -> None:
        """The runner of the apply dies."""


@dataclass
class Case:
    """One case. `runs` are the real agents that can play it, beside the played node; `fails` are the steps that do not
    work on a real one, which the played node has to be told."""

    name: str
    runs: tuple[str, ...]
    fails: frozenset[str]
    folders: tuple[str, ...]
    bodies: dict[str, bytes]
    bundles: dict[str, dict[str, Any]]
    play: list[dict[str, Any]]

    @staticmethod
    def load(name: str) -> Case:
        value = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        bodies = {key: _body(given) for key, given in value.get("bodies", {}).items()}
        bundles = {}
        for key, sections in value["bundles"].items():
            made = [
                {
                    "id": s["id"],
                    "needs": s.get("needs", []),
                    "steps": [_step(step, bodies) for step in s["steps"]],
                }
                for s in sections
            ]
            bundles[key] = {"format": 1, "server": "web1", "package_manager": "apt", "sections": made}
        return Case(
            name,
            tuple(value["runs"]),
            frozenset(value.get("fails", ())),
            tuple(value.get("folders", ())),
            bodies,
            bundles,
            value["play"],
        )


def _body(given: str | dict[str, str]) -> bytes:
    """A text, or the files of an archive."""
    return given.encode() if isinstance(given, str) else archive(**given)


def _step(short: Mapping[str, Any], bodies: Mapping[str, bytes]) -> dict[str, Any]:
    """`{file: PATH, body: NAME}` and so on: the first field is type and target, the rest as in the protocol."""
    kind, target = next(iter(short.items()))
    rest = {name: value for name, value in short.items() if name != kind}
    step: dict[str, Any] = {"type": kind, "key": f"{kind}:{target}"}
    if kind == "release":
        body = bodies[rest.pop("body")]
        home = {"site": target, "user": "bin", "home": f"/home/{target}", "root": "", "shared": []}
        made = {
            "recipe": sha(b"recipe"),
            "sha256": sha(body),
            "size": len(body),
            "build": False,
            "after": False,
        }
        return step | home | made | {"seconds": 60, "keep": 2, "check": None} | rest
    if kind == "certificate":
        return (
            step
            | {"site": target}
            | ({"group": MY_GROUP, "unit": "nginx.service"} if "issuer" in rest else {})
            | rest
        )
    step["path" if kind in ("file", "directory", "symlink") else "name"] = target
    if rest.get("state") != "absent":
        if kind in ("file", "directory"):
            step |= {
                "owner": ME,
                "group": MY_GROUP,
                "mode": {"file": "0644", "directory": "0755"}[kind],
            }
        if kind == "file":
            body = bodies[rest.pop("body")]
            step |= {"sha256": sha(body), "size": len(body)}
    return step | rest


@dataclass
class _Running:
    task: asyncio.Task[Outcome]
    events: list[Event]


@dataclass
class Performance:
    """One case being played. `heard` is what each request gave, in the short form."""

    case: Case
    player: Player
    heard: list[Any] = field(default_factory=list)
    running: dict[int, _Running] = field(default_factory=dict)
    talk: Conversing | None = None
    cursor: Object | None = None

    async def run(self) -> list[Any]:
        """Play it all; what was heard."""
        for folder in self.case.folders:
            await self.player.mkdir(folder)
        self.talk = await self.player.connect()
        for act in self.case.play:
            self.heard.append(await self._act(act["ask"]))
        assert not self.running, "an apply that was begun is waited for"
        return self.heard

    async def _act(self, act: dict[str, Any]) -> Any:
        try:
            return await self._do(act["do"], act)
        except NodeBusy as busy:
            return {"error": "busy", "deployment": self._number(busy.deployment)}
        except Fenced:
            return {"error": "fenced"}
        except AgentFault as fault:
            return {"error": fault.code}

    async def _do(self, op: str, act: dict[str, Any]) -> Any:  # noqa: C901 - one line an operation
        talk = self.talk
        assert talk is not None
        match op:
            case "write":
                return await self.player.write(act["path"], self.case.bodies[act["body"]])
            case "remove":
                return await self.player.remove(act["path"])
            case "refuse":
                return await self.player.audit(*_refusals(**act["of"]))
            case "rotate":
                for _ in range(act.get("times", 1)):
                    await self.player.rotate()
                return None
            case "empty":
                return await self.player.empty()
            case "release":
                return await self.player.release()
            case "kill":
                return await self.player.kill()
            case "hello":
                return self._hello(await talk.hello())
            case "bundle":
                return await self._bundle(talk, act["bundle"])
            case "check":
                return self._check(await talk.check(self._digest(act), act.get("sections")))
            case "prepare":
                found = await talk.prepare(self._digest(act), act.get("sections"))
                wants = [self._body(want) for want in found.wants]
                return {"wants": wants, "differences": self._differences(found.differences)}
            case "blob":
                return self._body(await talk.send_blob(self.case.bodies[act["body"]]))
            case "apply":
                return await self._follow(act)
            case "begin":
                return await self._begin(act)
            case "end":
                running = self.running.pop(act["deployment"])
                return self._told(await running.task, running.events)
            case "status":
                events: list[Event] = []
                notes = _notes(events)
                outcome = await talk.status(self._id(act), act.get("from", 0), notes, within=WITHIN)
                return self._told(outcome, events)
            case "cancel":
                return await (await self.player.connect()).cancel(self._id(act), act.get("fence", 1))
            case "avc":
                return await self._avc(talk, act)
            case "units":
                return {
                    name: [unit.active, unit.sub, unit.result, unit.load]
                    for name, unit in (await talk.units(act["names"])).items()
                }
        raise AssertionError(f"no such operation: {op}")

    async def _avc(self, talk: Conversing, act: Mapping[str, Any]) -> Any:
        found = await talk.avc(act.get("cursor", self.cursor), act.get("most", 100))
        if not found.log:
            return "no log"
        self.cursor = found.cursor
        told: dict[str, Any] = {
            "events": [
                [len(e.lines), e.count, e.first, e.last, e.lines[0].split('"')[-2]] for e in found.events
            ]
        }
        if found.gap is not None:
            told["gap"] = [found.gap.since, found.gap.until, found.gap.reason]
        return told | ({"more": True} if found.more else {})

    async def _bundle(self, talk: Conversing, name: str) -> str:
        bundle = self.case.bundles[name]
        digest = await talk.send_bundle(bundle)
        assert digest == canonical.digest(bundle)
        return "kept"

    async def _follow(self, act: dict[str, Any]) -> Any:
        talk = await self.player.connect() if self.running else self.talk
        assert talk is not None
        if "hand_over" in act:
            await self._hand_over(talk, act)
        events: list[Event] = []
        outcome = await talk.apply(
            self._id(act),
            self._digest(act),
            act.get("sections"),
            act.get("fence", 1),
            _notes(events),
            within=WITHIN,
        )
        return self._told(outcome, events)

    async def _hand_over(self, talk: Conversing, act: dict[str, Any]) -> None:
        digest = await talk.send_bundle(self.case.bundles[act["bundle"]])
        known = {sha(body): body for body in self.case.bodies.values()}
        for want in (await talk.prepare(digest, act.get("sections"))).wants:
            await talk.send_blob(known[want])

    async def _begin(self, act: dict[str, Any]) -> str:
        """Start an apply in the background; comes back when the step `until` has begun."""
        talk = await self.player.connect()
        await self._hand_over(talk, act)
        events: list[Event] = []
        seen = asyncio.Event()

        async def note(event: Event) -> None:
            events.append(event)
            if event.type == "step_started" and event.key == act["until"]:
                seen.set()

        follower = talk.apply(
            self._id(act), self._digest(act), act.get("sections"), act.get("fence", 1), note, within=WITHIN
        )
        self.running[act["deployment"]] = _Running(asyncio.ensure_future(follower), events)
        await seen.wait()
        return "begun"

    # the short form

    def _id(self, act: dict[str, Any]) -> str:
        return ulid(act["deployment"]) if isinstance(act["deployment"], int) else str(act["deployment"])

    def _number(self, deployment: str) -> int | None:
        known = {ulid(number): number for number in range(100)}
        return known[deployment] if deployment else None

    def _digest(self, act: dict[str, Any]) -> str:
        return "0" * 64 if act["bundle"] == "unknown" else canonical.digest(self.case.bundles[act["bundle"]])

    def _body(self, digest: object) -> object:
        names = {sha(body): name for name, body in self.case.bodies.items()}
        return names.get(str(digest), digest)

    def _hello(self, hello: Hello) -> dict[str, Any]:
        bundles = {canonical.digest(value): name for name, value in self.case.bundles.items()}
        return {
            "bundle": bundles[hello.bundle] if hello.bundle else None,
            "running": self._number(hello.running),
            "fence": hello.fence,
        }

    def _check(self, found: CheckResult) -> Any:
        if not found.known:
            return "unknown"
        assert found.in_sync == (not found.differences)
        return self._differences(found.differences) or "in sync"

    def _differences(self, found: Sequence[Difference]) -> list[Any]:
        return [self._difference(one) for one in found]

    def _difference(self, one: Difference) -> list[Any]:
        fields = {}
        for change in one.changes:
            # the old body is told only when the agent happens to know it
            before = None if change.field == "sha256" else change.before
            fields[change.field] = [_who(before), self._body(_who(change.after))]
        return [one.section, one.key, one.action, fields, *([one.note] if one.note else [])]

    def _told(self, outcome: Outcome, events: Sequence[Event]) -> dict[str, Any]:
        numbers = [event.n for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        sections = {}
        for name, section in outcome.sections.items():
            value: list[Any] = [section.state, section.changed]
            if section.message or section.kept:
                value.append(section.message)
            sections[name] = [*value, list(section.kept)] if section.kept else value
        told: dict[str, Any] = {"state": outcome.state, "sections": sections}
        rest = {"reloaded": list(outcome.reloaded), "doubt": outcome.doubt, "cancelled": outcome.cancelled}
        told |= {name: found for name, found in rest.items() if found}
        told["events"] = [_line(event) for event in events if event.type != "log"]
        return told


def _who(value: object) -> object:
    """The user of the tests, who owns what a folder node makes, stands for root."""
    return "root" if value in (ME, MY_GROUP) else value


def _line(event: Event) -> str:
    """An event in a line: its type, what it is about, and what came of it."""
    about = event.key or event.section
    words = [
        event.type,
        about,
        *(str(event.data[name]) for name in ("action", "changed") if name in event.data),
    ]
    verdict = "ok" if event.data.get("ok") else "not ok"
    words += [f"{event.data[name]} {verdict}" for name in ("name", "unit") if name in event.data]
    return " ".join(word for word in words if word)


def _refusals(names: Sequence[str], at: int, serial: int) -> list[str]:
    """The records of denials about these names, a second apart from each other."""
    lines = []
    for n, name in enumerate(names):
        head = f"msg=audit({at + n}.000:{serial + n}):"
        lines += [
            f"type=AVC {head} avc:  denied  {{ read }} for  pid={serial + n} comm=php scontext=u:r:php_t:s0:c0,c100"
            f' tcontext=u:r:content_t:s0:c1,c100 tclass=file permissive=0 name="{name}"',
            f"type=PROCTITLE {head} proctitle=706870\x1dMORE=x",
        ]
    return lines


def _notes(events: list[Event]) -> OnEvent:
    async def note(event: Event) -> None:
        events.append(event)

    return note


def same(expected: Any, heard: Any) -> bool:
    """Whether an answer is the expected one; `"*"` is any text that is not empty."""
    if expected == "*":
        return isinstance(heard, str) and bool(heard)
    if isinstance(expected, list) and isinstance(heard, list):
        return len(expected) == len(heard) and all(map(same, expected, heard))
    if isinstance(expected, dict) and isinstance(heard, dict):
        return expected.keys() == heard.keys() and all(same(expected[key], heard[key]) for key in expected)
    return bool(expected == heard)


def differing(case: Case, heard: Sequence[Any]) -> list[str]:
    """What was heard and is not what the case says, for people."""
    found = []
    for number, (act, answer) in enumerate(zip(case.play, heard, strict=True), 1):
        expected = act.get("gives")
        if not same(expected, answer):
            found.append(f"{number}. {act['ask']}: expected\n{_shown(expected)}heard\n{_shown(answer)}")
    return found


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=160)
