"""A state directory with what a daemon would have recorded in it, and the program run on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from reconciler.cli import faults
from reconciler.cli.main import program
from reconciler.errors import ReconcilerError
from reconciler.store import Store, Tx, create_state, open_state
from reconciler.store.queries import (
    alerts,
    conditions,
    deployments,
    events,
    inventory,
    leases,
    loop_state,
    revisions,
    servers,
    sites,
    sources,
    suspensions,
)
from reconciler.store.queries.conditions import State
from reconciler.store.words import ConditionStatus
from tests.e2e.harness import PROGRAM

OLD, NEW, NEWER = "0" * 39 + "a", "1" * 39 + "b", "2" * 39 + "c"


@dataclass(frozen=True)
class Told:
    """How a verb ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Recorded:
    """A state directory."""

    folder: Path

    @staticmethod
    def make(folder: Path) -> Recorded:
        create_state(folder)
        return Recorded(folder)

    @contextmanager
    def store(self, at: datetime | None = None) -> Iterator[Store]:
        with open_state(self.folder, clock=lambda: at or datetime.now(UTC)) as store:
            yield store

    def run(self, *words: str) -> Told:
        """Run a verb in this process."""
        environment = {"RECONCILER_STATE": str(self.folder), "NO_COLOR": None}
        result = CliRunner().invoke(program, words, env=environment, standalone_mode=False)
        if isinstance(result.exception, ReconcilerError):
            hint = f"\nHint: {result.exception.hint}"
            return Told(faults.exit_code(result.exception), result.stdout, result.exception.message + hint)
        if result.exception is not None:
            return Told(2, result.stdout, str(result.exception))
        return Told(result.return_value or 0, result.stdout, result.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The program in the background."""
        return subprocess.Popen(
            [PROGRAM, *words],
            env={**os.environ, "RECONCILER_STATE": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def event(
        self, name: str, message: str, *, kind: str = "Site", ago: float = 0, warning: bool = False
    ) -> None:
        with self.store(datetime.now(UTC) - timedelta(seconds=ago)) as store:
            store.write(
                lambda tx: events.add(
                    tx, kind, name, reason="Said", message=message, type="Warning" if warning else "Normal"
                )
            )

    def put(
        self,
        address: str,
        type: str,  # noqa: A002 - Kubernetes' word
        status: ConditionStatus,
        *,
        reason: str = "Reason",
        message: str = "",
        revision: str | None = None,
    ) -> None:
        kind, _, name = address.partition("/")
        with self.store() as store:
            store.write(
                lambda tx: conditions.put(tx, kind, name, type, State(status, reason, message, revision))
            )


def apply(tx: Tx, kind: str, name: str, revision: str = OLD, server: str | None = "web1") -> None:
    """Record a resource as applied."""
    inventory.put(tx, inventory.Applied(kind, name, {}, "d", [], revision, "x.yaml", 1, server))


def accept(tx: Tx, commit: str, status: Any = "accepted") -> None:
    revisions.accept(tx, commit=commit, author_name="Ada", author_email="ada@example.test", message="Change")
    revisions.set_status(tx, commit, status)


def fill(tx: Tx) -> None:
    """A fleet in the middle of things: one server at work, one unreachable, two calm."""
    sources.put(
        tx,
        "main",
        remote="ssh://git@git.example.test/infra.git",
        branch="main",
        state="ok",
        message="",
        seen=NEW,
    )
    sources.set_head(tx, "main", NEW)
    accept(tx, NEW, "applying")
    leases.acquire(tx, "daemon", "control1:812", timedelta(seconds=30))
    for number in range(1, 5):
        name = f"web{number}"
        server = servers.upsert(tx, name, servers.ServerFields(f"198.18.0.{number}", "alma_9"))
        servers.set_status(tx, server.id, "active")
        conditions.put(tx, "Server", name, "Ready", State("True", "ReconciliationSucceeded", "in sync", NEW))
        site = f"shop{number}"
        sites.upsert(tx, site, sites.SiteFields(server.id, f"{site}.example.test", "public", site, "8.2"))
        conditions.put(tx, "Site", site, "Ready", State("True", "ReconciliationSucceeded", "in sync", NEW))
    conditions.put(
        tx, "Server", "web2", "Reconciling", State("True", "NodeUnreachable", "connection refused", NEW)
    )
    conditions.put(tx, "Site", "shop1", "Ready", State("Unknown", "Progressing", "being reconciled", NEW))
    conditions.put(tx, "Site", "shop1", "Reconciling", State("True", "Progressing", "applying", NEW))
    conditions.put(tx, "Site", "shop3", "Drifted", State("True", "NodeDiffers", "1 file differs", None))
    web1 = servers.get(tx, "web1")
    assert web1 is not None
    made = deployments.create(
        tx, deployments.NewDeployment("Site", "shop1", "push", commit_hash=NEW, server_id=web1.id)
    )
    deployments.start(tx, made.id)
    loop_state.put(
        tx, loop_state.LoopState("Server", "web2", failures=3, retry_at=tx.now + timedelta(seconds=40))
    )
    alerts.add(
        tx,
        "Server",
        "web2",
        "NotReady",
        severity="error",
        reason="NodeUnreachable",
        message="connection\n\x1b[31mrefused",
    )
    suspensions.put(tx, "Site", "shop4", reason="sale", owner="ada", expires_at=None)
