"""A played node refuses databases that somebody else made, and gives them up to a step that adopts, as the agent does."""

from __future__ import annotations

import pytest

from reconciler.agent.steps.databases import NOT_OURS
from reconciler.testing import things
from reconciler.testing.things import StepFailed, Things

KINDS = ("mariadb_database", "mariadb_user", "postgresql_database", "postgresql_role")


def step(kind: str, **more: object) -> dict[str, object]:
    fields = (
        {"owner": "shop"} if kind == "postgresql_database" else {"password": "0" * 64, "host": "localhost"}
    )
    return {"type": kind, "key": f"{kind}:shop", "name": "shop", **fields, **more}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_foreign_is_refused_and_stays(kind: str) -> None:
    node: Things = {f"{kind}:shop": {"name": "shop", "foreign": True}}
    found = things.compare(node, "Database/shop", step(kind))
    assert found is not None
    assert (found.action, found.changes[0].field, found.note) == ("update", "adopted", NOT_OURS)
    with pytest.raises(StepFailed, match="exists on this node already"):
        things.carry_out(node, step(kind), 1)
    assert node == {f"{kind}:shop": {"name": "shop", "foreign": True}}
    assert things.compare(node, "Database/shop", step(kind, state="absent")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_adopted_is_ours_from_then_on(kind: str) -> None:
    node: Things = {f"{kind}:shop": {"name": "shop", "foreign": True, "mark": 5}}
    things.carry_out(node, step(kind, adopt=True), 1)
    assert things.compare(node, "Database/shop", step(kind)) is None
    gone = things.compare(node, "Database/shop", step(kind, state="absent"))
    assert gone is not None
    assert gone.action == "delete"
    if "database" in kind:
        assert node[f"{kind}:shop"]["mark"] == 5, "the same one, with its data"
