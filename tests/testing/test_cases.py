"""The played node and the real agent are put through the same cases and give the same answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab import Node
from reconciler.nodes import keys
from reconciler.nodes.enrol import enrol
from reconciler.testing import simulated
from tests.agent.conftest import here, program  # noqa: F401 - fixtures
from tests.agent.talking import Here
from tests.nodes.labs import operator, panel_target
from tests.testing.casebook import CASES, Case, Performance, differing
from tests.testing.players import FakePlayer, FolderPlayer, LabPlayer

IN_A_FOLDER = [name for name in CASES if "folder" in Case.load(name).runs]
IN_THE_LAB = [name for name in CASES if "lab" in Case.load(name).runs]
RESET = """
systemctl disable --now panel-shop.service panel-blog.service 2>/dev/null
userdel -r shop 2>/dev/null; groupdel panelsites 2>/dev/null
rm -rf /var/lib/panel /run/panel /etc/panel /etc/systemd/system/panel-shop.service /etc/systemd/system/panel-blog.service
systemctl daemon-reload
"""


@pytest.mark.parametrize("name", CASES)
def test_the_played_node_answers_as_the_case_says(name: str) -> None:
    case = Case.load(name)
    heard = simulated.run(Performance(case, FakePlayer(case)).run())
    assert not (found := differing(case, heard)), "\n".join(found)


@pytest.mark.parametrize("name", IN_A_FOLDER)
def test_the_real_agent_answers_as_the_case_says(name: str, here: Here) -> None:  # noqa: F811
    case = Case.load(name)

    async def play() -> list[object]:
        player = FolderPlayer(here)
        try:
            return await Performance(case, player).run()
        finally:
            await player.close()

    assert not (found := differing(case, asyncio.run(play()))), "\n".join(found)


async def test_a_real_node_answers_as_the_cases_say(debian_node: Node, tmp_path: Path) -> None:
    panel = keys.generate()
    await enrol(operator(debian_node), panel)
    found: list[str] = []
    for name in IN_THE_LAB:
        case = Case.load(name)
        player = LabPlayer(debian_node, panel_target(debian_node, panel))
        try:
            heard = await Performance(case, player).run()
        finally:
            await player.close()
        found += [f"{name}: {difference}" for difference in differing(case, heard)]
        debian_node.run(RESET, check=False)
    assert not found, "\n".join(found)
