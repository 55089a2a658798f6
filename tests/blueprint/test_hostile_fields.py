"""Whatever is put into a text field of a manifest is refused with its place, or stands in what is rendered as one plain value.

The fields are found in the generated schemas, so a new field is held to it without a line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest

from reconciler import blueprint
from reconciler.agent import vocabulary
from reconciler.agent.inventory import lexer
from reconciler.desired.fleet import Fleet, Key, Loaded
from reconciler.desired.problems import format_problem
from reconciler.kit.secret import Secret

from .fleets import only_server, system_users
from .hostile import BASE, PLAIN, VALUES, Maker, Slot, slots, sound

MAKER = Maker()
SLOTS = slots()
KNOWN = {
    "site:spec.domain",
    "site:spec.aliases.0",
    "site:spec.env.*",
    "site:spec.env.{}",
    "site:spec.headers.*",
    "site:spec.cron.0.command",
    "site:spec.redirects.0.to",
    "site:spec.proxy.upstream",
    "database:spec.username",
    "server:spec.hostname",
    "server:metadata.annotations.*",
}
"""Some of every form; they take a plain value."""
Shape = Mapping[str, object]


def _shape(fleet: Fleet) -> Shape:
    """The skeleton of all that is rendered: each file's directives, keys and sections, without the values."""
    made = blueprint.bundle(only_server(fleet), fleet, system_users(fleet), _secret)
    vocabulary.check_bundle(json.loads(json.dumps(made.to_json())))
    shape: dict[str, object] = {}
    for section in made.sections:
        for step in section.steps:
            if step.type == "file" and step.body is not None and step.body.content is not None:
                shape[step.target] = _skeleton(step.target, step.body.content.decode())
    return shape


def _secret(key: Key, field: str) -> Secret:
    return Secret("x" * 32)


def _skeleton(path: str, text: str) -> object:
    assert "1337" not in text, f"{path}: a template was evaluated"
    assert "\x00" not in text
    if path.startswith("/etc/nginx/"):
        return _blocks(lexer.parse(text))
    if path.endswith((".html", ".te", ".fc")):
        return text
    if path.endswith((".caddy", "Caddyfile")):
        return [line.split()[0] for line in text.split("\n") if line.strip()]
    lines = [line for line in text.split("\n") if line.strip() and line.strip()[0] not in "#;"]
    if path.startswith("/etc/systemd/"):
        assert not [line for line in lines if line.endswith("\\")], f"{path}: a line is continued"
    return [re.match(r"[^=]*", line)[0] if "=" in line else line for line in lines]  # type: ignore[index]


def _blocks(directives: list[lexer.Directive]) -> list[object]:
    return [
        (one.name, len(one.args), None if one.block is None else _blocks(one.block)) for one in directives
    ]


def _control(slot: Slot, web: str = "nginx") -> Fleet | None:
    """The fleet with a plain value in the slot; None when no plain one will do."""
    for value in PLAIN:
        fleet = sound(MAKER.loaded(slot, value, web))
        if fleet is not None:
            return fleet
    return None


def _check_problems(loaded: Loaded, what: str) -> None:
    for problem in loaded.errors:
        line = format_problem(problem)
        assert re.match(r"[a-z]+\.yaml:\d+:\d+: ", line), (what, line)
        assert line.isprintable(), (what, line)
        assert len(line) < 2000, (what, len(line))


@pytest.mark.parametrize(("kind", "web"), [*((kind, "nginx") for kind in BASE), ("site", "caddy")])
def test_a_hostile_value_is_refused_with_its_place_or_stays_one_value(kind: str, web: str) -> None:
    for slot in (slot for slot in SLOTS if slot.kind == kind):
        shape: Shape | None = None
        for name, value in VALUES.items():
            what = f"{slot} {name}"
            loaded = MAKER.loaded(slot, value, web)
            _check_problems(loaded, what)
            fleet = sound(loaded)
            if fleet is None or kind in ("user", "sshkey", "rollout"):
                continue
            if shape is None:
                control = _control(slot, web)
                assert control is not None, f"{what}: taken, though no plain value is"
                shape = _shape(control)
            found = _shape(fleet)
            # a file that is named after the value has another name, and else the same form
            assert sorted(map(repr, found.values())) == sorted(map(repr, shape.values())), what


def test_the_fields_are_found() -> None:
    """A schema in another form must not make the test above pass by looking at nothing."""
    named = {str(slot) for slot in SLOTS}
    assert named >= KNOWN
    assert len(named) > 100
    # Fields that need others beside them, and what age has encrypted, have no plain value here. They are tried all the same.
    without = {str(slot) for slot in SLOTS if _control(slot) is None}
    assert not without & KNOWN
    assert len(without) < len(SLOTS) // 4, sorted(without)
