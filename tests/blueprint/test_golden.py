"""Each folder of tests/cases/blueprint is a fleet and what it renders to. `UPDATE_GOLDEN=1` writes the expectation anew.

`fleet.yaml` is the input. `bundle.json` and `bodies.txt` are the plan form of the sections that the case is about:
the server's own when the fleet has nothing else, all of them where it is about databases, all others otherwise.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reconciler import blueprint
from reconciler.blueprint.model import Section
from reconciler.platforms import for_os

from .fleets import fleet_of, only_server, system_users

CASES = Path(__file__).parent.parent / "cases/blueprint"
POLICY = {f"/etc/panel/selinux/{name}": f"(selinux/{name})" for name in ("panel.te", "panel.fc")}
"""Bodies that are files of this repository as they are: a case names them instead of repeating them."""
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


def _case_names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir() if path.is_dir())


def _bodies(sections: list[Section]) -> str:
    parts = [
        f"==> {blueprint.describe(step)} <==\n{POLICY.get(step.target) or step.body.content.decode()}"
        for section in sections
        for step in section.steps
        if step.type in ("file", "firewall", "sshd")
        and step.body is not None
        and step.body.content is not None
    ]
    return "\n".join(parts)


def _json(section: Section) -> dict[str, object]:
    form = section.to_json()
    steps = form["steps"]
    assert isinstance(steps, list)
    for step in steps:
        assert isinstance(step, dict)
        if step.get("path") in POLICY:
            step |= {"sha256": POLICY[str(step["path"])], "size": 0}
    return dict(form)


@pytest.mark.parametrize("name", _case_names())
def test_a_fleet_renders_to_what_its_case_says(name: str) -> None:
    folder = CASES / name
    fleet = fleet_of((folder / "fleet.yaml").read_text())
    server = only_server(fleet)
    sections = list(blueprint.sections(server, fleet, system_users(fleet), blueprint.masked))
    # databases change what their server's engines listen to
    about = sections if name.endswith(("-databases", "-redis")) else sections[1:] or sections
    found = {
        "bundle.json": json.dumps([_json(s) for s in about], indent=1, ensure_ascii=False) + "\n",
        "bodies.txt": _bodies(about),
    }
    for file, text in found.items():
        if UPDATE:
            (folder / file).write_text(text)
        assert text == (folder / file).read_text(), (
            f"{name}/{file} differs; UPDATE_GOLDEN=1 accepts the change"
        )


def test_every_platform_has_a_case_of_everything() -> None:
    whats = (
        "server",
        "wordpress",
        "laravel",
        "generic",
        "static",
        "proxy",
        "answers",
        "suspended",
        "tls",
        "acme",
        "jobs",
        "databases",
        "source",
        "redis",
        "host",
    )
    platforms = ("el8", "el9", "el10", "debian12", "debian13")
    assert set(_case_names()) >= {f"{platform}-{what}" for platform in platforms for what in whats}
    with_caddy = platforms[:2] + platforms[3:]  # EL 10 has none: reconciler/platforms
    kinds = [
        what for what in whats if what not in ("jobs", "databases", "redis", "host")
    ]  # which know of no web server
    assert set(_case_names()) >= {f"{platform}-caddy-{what}" for platform in with_caddy for what in kinds}
    for name in _case_names():
        fleet = fleet_of((CASES / name / "fleet.yaml").read_text())
        assert for_os(only_server(fleet).spec.os.value).name == name.partition("-")[0]
