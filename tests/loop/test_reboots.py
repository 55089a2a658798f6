"""What nodes say of a reboot, as a condition of servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.converge.observer import Observation
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.kit.canonical import Json
from reconciler.loop import reboots
from reconciler.nodes import answers
from reconciler.nodes.answers import Malformed, RebootFact
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.secrets.box import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions

WEB1 = Key(Kind.SERVER, "web1")
RECORDED = Recorded({WEB1: RecordedResource(WEB1, {}, "web1", revision="c" * 40)})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.create(tmp_path / "state.sqlite", Box([b"k" * 32]))
    yield opened
    opened.close()


def noted(store: Store, told: dict[str, RebootFact]) -> tuple[str, str] | None:
    def unit(tx: Tx) -> tuple[str, str] | None:
        reboots.note(tx, RECORDED, Observation(reboots=told))
        known = conditions.get(tx, "Server", "web1", "RebootNeeded")
        return (known.status, known.message) if known else None

    return store.write(unit)


def test_a_server_says_why_it_needs_a_reboot_until_it_was_rebooted(store: Store) -> None:
    assert noted(store, {}) is None
    packages = tuple(f"package{number:02}" for number in range(12))
    status, said = noted(store, {"web1": RebootFact(needed=True, why="packages ask", packages=packages)}) or (
        "",
        "",
    )
    assert status == "True"
    assert said.startswith("the server needs a reboot: packages ask (package00, package01, ")
    assert said.endswith("package09 and 2 more)")
    # a server that is not recorded, and one that does not answer, change nothing
    assert noted(store, {"web2": RebootFact()}) == ("True", said)
    assert noted(store, {"web1": RebootFact()}) == ("False", "")


def test_agents_of_before_do_not_tell_and_nonsense_is_refused() -> None:
    told: dict[str, Json] = {
        "agent": "a", "python": "3.9", "bundle": None, "running": None, "fence": 0,
        "facts": {"os_id": "debian", "package_manager": "apt", "selinux": "disabled"},
    }  # fmt: skip
    assert answers.hello(told).reboot is None
    good: dict[str, Json] = {"needed": True, "why": "w", "packages": ["linux-image"]}
    assert answers.hello({**told, "reboot": good}).reboot == RebootFact(True, "w", ("linux-image",))
    many: list[Json] = [{**good, "needed": 1}, {**good, "packages": "a"}, {"why": "w"}, "x"]
    for bad in many:
        with pytest.raises(Malformed):
            answers.hello({**told, "reboot": bad})
