"""A stage without nodes: a fleet repository and a state directory; and a desk with what an operator finds on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.store import Tx
from reconciler.store.queries import conditions, inventory, sources
from tests.cli.desk import OLD, Desk, look
from tests.e2e.harness import Fleet, Stage


@pytest.fixture(scope="session")
def _declared(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage.build(tmp_path_factory.mktemp("declared"))
    made.fleet.put(
        "Server",
        "web1",
        address="198.18.0.99",
        os="alma_9",
        sshKey="fleet",
        databaseEngines=["mariadb"],
        software={"php": ["8.2"]},
    )
    made.site("shop", "web1", env={"TOKEN": "a-value-to-hide"})
    made.database("shop", "web1", site="shop")
    made.fleet.commit("Declare the fleet")
    return made


@pytest.fixture
def stage(_declared: Stage, tmp_path: Path) -> Stage:
    """A fleet of one server, a site and a database, committed and never applied."""
    shutil.copytree(_declared.state, tmp_path / "state")
    shutil.copytree(_declared.fleet.folder, tmp_path / "fleet")
    return Stage(Fleet(tmp_path / "fleet"), tmp_path / "state")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A database that knows a fleet whose branch was rewritten, a site and its database."""
    made = Desk(tmp_path / "state", capsys, monkeypatch)

    def fill(tx: Tx) -> None:
        look(tx, "main")
        sources.set_head(tx, "main", OLD)
        ready = conditions.State("True", "Succeeded", "applied")
        for kind, name in (("Server", "web1"), ("Site", "shop"), ("Database", "shop")):
            conditions.put(tx, kind, name, "Ready", ready)
            inventory.put(tx, inventory.Applied(kind, name, {}, "", [], OLD, "site.yaml", 1, server="web1"))

    made.write(fill)
    return made
