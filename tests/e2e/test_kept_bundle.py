"""A node in sync remembers the bundle that it should have, so that looking again sends one small message."""

from __future__ import annotations

from .harness import Stage

STATE = "/var/lib/panel"


def test_a_bundle_with_removals_is_replaced_by_the_next_apply_and_by_no_look(stage: Stage) -> None:
    stage.site("brief", "deb")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["deb"]
    stage.fleet.drop("Site", "brief")
    stage.fleet.commit()
    stage.apply()

    def kept() -> tuple[bool, str, str]:
        mentions = not node.run(f"grep -q brief {STATE}/bundle.json", check=False).returncode
        return (
            mentions,
            node.output(f"ls {STATE}/journal"),
            node.output(f"stat -c %y {STATE}/bundle-next.json"),
        )

    with_removals = kept()
    assert with_removals[0]
    stage.run("plan", "--refresh")
    stage.run("drift")
    assert kept()[:2] == with_removals[:2]
    stage.apply()
    after = kept()
    assert not after[0]
    stage.apply()
    assert kept() == after
