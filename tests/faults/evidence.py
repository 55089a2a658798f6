"""What the nodes wrote down about every apply, held against what the plans named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import Node
from reconciler.store.state import DATABASE

Named = dict[tuple[str, str], set[str]]
"""Step keys by commit and resource."""


@dataclass(frozen=True)
class Begun:
    """A step that a node began: in which apply, for which resource, and what it did."""

    node: str
    apply: str
    section: str
    key: str
    action: str


def rows(state: Path, query: str, *values: str) -> list[list[object]]:
    """What a query of a state directory's database says, read from outside."""
    connection = sqlite3.connect(f"file:{state / DATABASE}?mode=ro", uri=True, timeout=30)
    try:
        return [list(row) for row in connection.execute(query, values).fetchall()]
    finally:
        connection.close()


def begun(node: Node) -> Iterator[Begun]:
    """Every step that the node's journals know of, the oldest apply first."""
    for folder in sorted((node.root / "var/lib/panel/journal").glob("*")):
        log = folder / "events.ndjson"
        if not log.exists():
            continue
        for line in log.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # cut off by a crash
            event = json.loads(line)
            if event["type"] == "step_started":
                yield Begun(node.name, folder.name, event["section"], event["key"], event["action"])


def note(state: Path, plans: Named) -> None:
    """Add the steps that the recorded plans name, by commit and resource: only the newest hundred are kept there."""
    for commit, document in rows(state, 'SELECT "commit", document FROM plans'):
        for change in json.loads(str(document))["changes"]:
            address = "/".join(change["key"])
            plans.setdefault((str(commit), address), set()).update(
                {key for op, key, _ in change["steps"] if op != "none"}
            )


def unplanned(state: Path, nodes: Iterable[Node], plans: Named) -> list[Begun]:
    """Steps that a node began though none of `plans` of the commit that its deployment was for names them.

    Repairs of drift are left out: what they do is in no recorded plan, it follows from what the node showed.
    """
    commits = {
        (str(apply), f"{kind}/{name}"): "" if corrective else str(commit)
        for apply, kind, name, commit, corrective in rows(
            state,
            "SELECT apply_id, kind, name, commit_hash, corrective FROM deployments WHERE apply_id IS NOT NULL",
        )
    }
    found = []
    for node in nodes:
        for step in begun(node):
            commit = commits.get((step.apply, step.section))
            if commit == "":
                continue
            if commit is None or step.key not in plans.get((commit, step.section), ()):
                found.append(step)
    return found
