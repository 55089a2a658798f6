"""Golden plans: each folder of tests/cases/plan holds `before/` and `after/` (manifests) and the expected output.

`before` is applied to nothing, then `after` is planned against that. `case.json` may add what manifests cannot say:
`recorded` (fields of single resources), `drift`, `unreachable`, `engine` (version of the templates), `offline`, `detail`.
UPDATE_GOLDEN=1 writes the expected files anew: read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.desired.tree import load
from reconciler.plan.model import DriftItem, Plan
from reconciler.plan.offline import recorded_from
from reconciler.plan.recorded import Recorded
from reconciler.plan.render import as_json, as_markdown, as_text

from .scene import AT, ENGINE, Head, Renderer, plan_of, recorded_of

CASES = Path(__file__).parents[1] / "cases" / "plan"
FORMS = ("plan.txt", "plan.json", "plan.md")


def read(folder: Path) -> Loaded:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.yaml"))}
    loaded = load(files)
    # The words of problems belong to the loader's own tests.
    return replace(
        loaded, problems=tuple(replace(p, message=f"({p.code})", hint="") for p in loaded.problems)
    )


def key(address: str) -> Key:
    kind, _, name = address.partition("/")
    return Key(Kind(kind), name)


def recorded_state(folder: Path, case: Mapping[str, Any]) -> Recorded:
    before = read(folder / "before")
    assert before.errors == (), "the recorded state of a case must come from sound manifests"
    if case.get("offline"):
        return recorded_from(before, "b" * 40)
    if not before.fleet.entries:
        return Recorded()
    recorded = replace(recorded_of(before), base_commit="b" * 40)
    resources = dict(recorded.resources)
    for address, fields in case.get("recorded", {}).items():
        resources[key(address)] = replace(resources[key(address)], **fields)
    return replace(recorded, resources=resources)


def plan_case(folder: Path) -> tuple[Plan, bool]:
    path = folder / "case.json"
    case: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    drift = [
        DriftItem(
            key(d["key"]),
            d["server"],
            d["step"],
            d["action"],
            tuple(map(tuple, d.get("changes", ()))),
            d.get("note", ""),
        )
        for d in case.get("drift", ())
    ]
    plan = plan_of(
        read(folder / "after"),
        recorded_state(folder, case),
        head=Head("a" * 40, "Ada", "ada@fleet.test"),
        created_at=AT,
        engine=ENGINE,
        drift=drift,
        refreshed="drift" in case,
        unreachable=case.get("unreachable", {}),
        renderer=Renderer(case.get("engine", "1")),
    )
    return plan, bool(case.get("detail"))


@pytest.mark.parametrize("folder", sorted(p for p in CASES.iterdir() if p.is_dir()), ids=lambda p: p.name)
def test_the_plan_is_as_written_down(folder: Path) -> None:
    plan, detail = plan_case(folder)
    forms = (as_text(plan, detail=detail), as_json(plan, indent=2), as_markdown(plan, detail=detail))
    for name, got in zip(FORMS, forms, strict=True):
        expected = folder / name
        if os.environ.get("UPDATE_GOLDEN"):
            expected.write_text(got, "utf-8")
        assert got == expected.read_text("utf-8"), (
            f"{folder.name}/{name} differs; UPDATE_GOLDEN=1 rewrites it"
        )


def test_there_are_cases() -> None:
    assert len([p for p in CASES.iterdir() if p.is_dir()]) >= 10
