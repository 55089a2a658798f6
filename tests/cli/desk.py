"""An operator's desk: a state directory, the program, and a daemon as far as verbs see one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.app import asking
from reconciler.cli.main import main
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.plan import serial
from reconciler.plan.identity import identity
from reconciler.plan.model import Action, Change, Finding, Plan, Risk
from reconciler.store import Store, Tx, create_state, open_state
from reconciler.store.queries import (
    audit,
    leases,
    plans,
    requests,
    sources,
)
from reconciler.store.queries.requests import Request
from tests.app.ear import listening

OLD, NEW = "ab" * 20, "9f" * 20
LOSS = Finding("data-loss", "1 database would be dropped.", blocking=True, addresses=("Database/shop",))
MASS = Finding("mass-deletion", "4 of 9 would be removed.", blocking=True, addresses=("Site/a", "Site/b"))
PROTECTED = Finding(
    "protected",
    "1 protected resource would be removed.",
    blocking=True,
    addresses=("Site/a",),
    hint="Set `protect: false`.",
    approvable=False,
)


class Desk:
    """An operator's desk: a state directory and the program."""

    def __init__(self, state: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.state = state
        self._capture = capture
        self._patch = patch
        create_state(state)
        patch.setenv("RECONCILER_STATE", str(state))
        patch.setenv("SUDO_USER", "ada")

    def run(self, *words: str, code: int = 0) -> str:
        """What the program prints, on both streams."""
        self._patch.setattr("sys.argv", ["reconciler", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        assert ended.value.code == code, said
        assert "Traceback" not in said.err
        return said.out + said.err

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--output", "json", code=code))

    def write(self, unit: Callable[[Tx], Any]) -> Any:
        with open_state(self.state) as store:
            return store.write(unit)

    def read(self, unit: Callable[[Tx], Any]) -> Any:
        with open_state(self.state) as store:
            return store.read(unit)

    def audited(self) -> list[tuple[str, str, str]]:
        """Newest first; the chain must be sound."""
        assert self.read(audit.verify) is None
        return [(one.actor, one.action, one.subject) for one in self.read(audit.listed)]


def look(tx: Tx, fleet: str, state: Any = "rewritten", seen: str = NEW) -> None:
    message = "" if state == "ok" else "branch main was rewritten"
    sources.put(
        tx,
        fleet,
        remote="ssh://git@git.example.test/infra.git",
        branch="main",
        state=state,
        message=message,
        seen=seen,
    )


@contextmanager
def daemon(desk: Desk, answer: Callable[[Tx, Request], None] | None = None) -> Iterator[list[Request]]:
    """A daemon as far as verbs see one: it holds the lease, hears nudges, and answers requests."""
    heard: list[Request] = []
    end = threading.Event()
    with open_state(desk.state) as store, listening(desk.state) as ear:
        store.write(lambda tx: leases.acquire(tx, asking.LEASE, "test", timedelta(minutes=5)))
        ear.settimeout(0.05)
        thread = threading.Thread(target=_work, args=(store, ear, end, heard, answer))
        thread.start()
        try:
            yield heard
        finally:
            end.set()
            thread.join(30)
            store.write(lambda tx: leases.release(tx, asking.LEASE, "test"))


def _work(
    store: Store,
    ear: Any,
    end: threading.Event,
    heard: list[Request],
    answer: Callable[[Tx, Request], None] | None,
) -> None:
    while not end.is_set():
        try:
            ear.recv(100)
        except TimeoutError:
            continue
        for one in store.read(requests.waiting):
            heard.append(one)
            if answer is not None:
                store.write(lambda tx, one=one: answer(tx, one))  # type: ignore[misc]  # a lambda that binds its turn


def done(tx: Tx, one: Request) -> None:
    requests.answer(tx, one.id, "done", f"{one.verb} of {one.subject}")


def change(kind: Kind, name: str, action: Action, *risks: Risk) -> Change:
    return Change(Key(kind, name), action, "removed", "its manifest is gone", server="web1", risks=risks)


def waiting_plan(desk: Desk, *findings: Finding, commit: str = NEW, status: Any = "waiting") -> str:
    plan = Plan(
        OLD,
        commit,
        4,
        "01HZXLINEAGE",
        "reconciler test",
        "2026-01-31T12:00:00Z",
        changes=(
            change(Kind.DATABASE, "shop", Action.DELETE, Risk.DATA_LOSS),
            change(Kind.SITE, "a", Action.FORGET),
            change(Kind.SITE, "b", Action.UPDATE),
        ),
        findings=findings,
        author_name="Grace",
    )
    value = serial.plan_to_json(plan)
    new = plans.NewPlan(
        fleet="main",
        identity=identity(plan),
        commit=commit,
        tree="",
        base_commit=OLD,
        serial=4,
        lineage=plan.lineage,
        engine=plan.engine,
        document=value,
        summary={"delete": 1, "forget": 1, "update": 1},
        findings=value["findings"],  # type: ignore[arg-type]  # JSON, whose shape the plan made
    )
    stored: str = desk.write(lambda tx: plans.put(tx, new, status=status)).id
    return stored
