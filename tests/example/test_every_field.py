"""The example fleet shows every field that has an effect, has no problem, and plans without an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.desired import sealed
from reconciler.desired.kinds import Kind
from reconciler.desired.schema import filename
from reconciler.desired.snapshot import load_snapshot, read_folder
from reconciler.kit.secret import Secret
from reconciler.secrets.age import AgeIdentity
from reconciler.store import open_state
from reconciler.store.identity import put

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example-infra"
PROGRAM = Path(sys.executable).parent / "reconciler"
IDENTITY = Path(__file__).with_name("identity.txt")

SHARED = (
    "metadata",
    "spec.suspend",
    "spec.protect",
    "spec.deletionPolicy",
    "spec.drift",
    "spec.healthChecks",
)
"""What several kinds have alike: it is shown where it is best understood, once in the whole fleet."""
UNUSED = {
    "Site.spec.source.revision": "the daemon fills it in; a manifest that has it is refused",
}
"""Fields that the example does not show, each with its reason."""


def _declared(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every field of a schema, through references, alternatives and lists; keys of free maps belong to the map."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for inner in [*node.get("anyOf", ()), *([node["items"]] if "items" in node else ())]:
        yield from _declared(schema, inner, path)
    for name, field in node.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        yield below
        yield from _declared(schema, field, below)


def _written(value: object, path: str = "") -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                below = f"{path}.{name}".lstrip(".")
                yield below
                yield from _written(inner, below)
        case list():
            for inner in value:
                yield from _written(inner, path)


def _documents() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(EXAMPLE.rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def _used() -> set[str]:
    """`Kind.path` of each field that is written, in a manifest or in Defaults for the kind."""
    used = {f"{d['kind']}.{path}" for d in _documents() for path in _written(d)}
    for document in _documents():
        if document["kind"] == "Defaults":
            spec = document["spec"]
            used |= {f"{spec['appliesTo']}.spec.{path}" for path in _written(spec["values"])}
    return used


def _all() -> set[str]:
    found = set()
    for kind in Kind:
        schema = json.loads((ROOT / "schemas/v1" / filename(kind)).read_text(encoding="utf-8"))
        # `age` is how a value may be written, not a field
        found |= {f"{kind.value}.{path}" for path in _declared(schema, schema) if not path.endswith(".age")}
    return found


def _common(path: str) -> str:
    """The path without its kind where several kinds have it alike."""
    rest = path.partition(".")[2]
    return rest if any(rest == s or rest.startswith(f"{s}.") for s in SHARED) else path


def test_the_example_shows_every_field() -> None:
    declared = {_common(path) for path in _all()}
    assert len(declared) > 190
    assert {
        "Site.spec.tls.hsts.maxAge",
        "Server.spec.firewall.allow.port",
        "spec.drift.ignore.step",
    } <= declared
    missing = declared - {_common(path) for path in _used()}
    assert sorted(p for p in missing if not any(p == u or p.startswith(f"{u}.") for u in UNUSED)) == []


def test_no_exception_is_one_that_the_example_shows() -> None:
    assert set(UNUSED) <= _all()
    assert not set(UNUSED) & _used()


@pytest.mark.parametrize(
    ("kind", "path", "values"),
    [
        ("Site", "appType", {"wordpress", "laravel", "generic", "static", "proxy"}),
        ("Site", "tls.mode", {"off", "selfSigned", "provided", "acme"}),
        ("Site", "www", {"keep", "add", "strip"}),
        ("Site", "drift.mode", {"off", "report", "heal"}),
        ("Server", "webServer", {"nginx", "caddy"}),
        ("Server", "selinux.mode", {"enforcing", "permissive", None}),
        ("Server", "updates", {"security", "off"}),
        ("Database", "engine", {"mariadb", "postgresql"}),
        ("Database", "deletionPolicy", {"retain", "delete"}),
        ("Rollout", "onFailure", {"quarantine", "stop"}),
    ],
)
def test_the_example_shows_each_choice(kind: str, path: str, values: set[str | None]) -> None:
    fleet = load_snapshot(read_folder(EXAMPLE)).fleet
    found = set()
    for key, entry in fleet.entries.items():
        value: Any = entry.manifest.spec.model_dump(by_alias=True, mode="json") if key.kind == kind else None
        for part in path.split(".") if value else ():
            value = value[part]
        found |= {value} if key.kind == kind else set()
    assert found == values


def test_the_systems_of_the_example_are_of_both_families_and_of_every_version() -> None:
    found = {s.spec.os.value for s in load_snapshot(read_folder(EXAMPLE)).fleet.servers()}
    assert found == {"alma_9", "rocky_8", "rocky_10", "debian_12", "debian_13"}


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "RECONCILER_STATE": str(folder / "state")},
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_validate_has_nothing_to_say(tmp_path: Path) -> None:
    done = _run(tmp_path, "validate", ".")
    assert (done.returncode, done.stderr) == (0, "")
    resources = [d for d in _documents() if d["kind"] != "Defaults"]
    files = list(EXAMPLE.rglob("*.yaml"))
    assert done.stdout == f"Valid: {len(resources)} resources in {len(files)} files.\n"


def _identity() -> AgeIdentity:
    (line,) = (x for x in IDENTITY.read_text(encoding="utf-8").splitlines() if not x.startswith("#"))
    return AgeIdentity(Secret(line))


def test_the_first_plan_creates_everything(tmp_path: Path) -> None:
    """With the key of the example; only what comes from repositories of applications waits until these are asked."""
    _run(tmp_path, "init")
    with open_state(tmp_path / "state") as store:
        store.write(
            lambda tx: put(
                tx,
                "age_identity",
                tx.box.seal(_identity().text, table="meta", row_id="age_identity", column="value"),
            )
        )
    fleet = tmp_path / "fleet"
    shutil.copytree(EXAMPLE, fleet)
    who = ("-c", "user.name=O", "-c", "user.email=operator@example.test")
    for words in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        (*who, "commit", "-q", "-m", "Declare the fleet"),
    ):
        subprocess.run(["git", *words], cwd=fleet, check=True, timeout=30)
    done = _run(tmp_path, "plan", "--fleet", str(fleet), "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads(done.stdout)
    planned = {c["address"]: c["change"]["actions"] for c in plan["resource_changes"]}
    everything = {f"{d['kind']}/{d['metadata']['name']}" for d in _documents() if d["kind"] != "Defaults"}
    waiting = {"Site/archive", "Site/crm", "Site/handbook"}
    assert planned == {a: ["no-op" if a in waiting else "create"] for a in everything}


def test_what_is_encrypted_opens_with_the_key_of_the_example_and_fits_its_field() -> None:
    loaded = load_snapshot(read_folder(EXAMPLE))
    values = [path for entry in loaded.fleet.entries.values() for path, _ in sealed.sealed(entry.manifest)]
    assert len(values) == 3
    identity = _identity()
    # also that the key of chat's certificate is that certificate's
    assert sealed.judge(loaded, lambda: identity.open).problems == ()
    other = sealed.judge(loaded, lambda: AgeIdentity.generate().open)
    assert {p.code for p in other.problems} == {"locked-secret"}
    assert identity.public in (EXAMPLE / "README.md").read_text(encoding="utf-8")
