"""Commits and what they set in motion on real nodes of both families."""

from __future__ import annotations

from .harness import Stage, fetch


def test_smoke(stage: Stage) -> None:
    for server in stage.nodes:
        stage.site(f"one-{server}", server)
        stage.database(f"one-{server}", server, site=f"one-{server}")
    stage.fleet.commit()
    print(stage.apply().text)
    for server, node in stage.nodes.items():
        print(fetch(node, f"one-{server}.test"))
    stage.in_sync()
