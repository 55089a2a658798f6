"""Words about fields: `explain`, the schemas, the pages of docs/spec and the example, all told from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.desired import fields
from reconciler.desired.explain import explain
from reconciler.desired.kinds import Kind
from reconciler.desired.schema import filename, main, render_schemas
from reconciler.desired.snapshot import load_snapshot, read_folder
from reconciler.desired.tree import load
from reconciler.errors import UsageFault

from .cases import CASES, load_case, problems_text

ROOT = Path(__file__).parent.parent.parent
SPEC = ROOT / "docs" / "spec" / "v1"


@pytest.mark.parametrize(
    ("path", "type_", "required", "default"),
    [
        ("site.spec.phpVersion", "PHP version", False, "none"),
        ("site.spec.server", "name", True, ""),
        ("Site.spec.aliases", "list of domain names", False, "[]"),
        ("sites.spec.appType", "one of wordpress, laravel, generic, static, proxy", False, "generic"),
        ("site.spec.env", "map of variable names to texts or {age: …}", False, "{}"),
        ("site.spec.php.maxChildren", "whole number from 1 to 500", False, "5"),
        ("site.spec.documentRoot", "relative path", False, "none"),
        ("site.spec.suspend", "true or false", False, "false"),
        ("server.spec.databaseEngines", "list of mariadb, postgresql", False, "[]"),
        ("server.spec.webServer", "one of nginx, caddy", False, "nginx"),
        ("database.spec.deletionPolicy", "one of delete, retain", False, "retain"),
        ("database.spec.privileges", "list of privileges", False, "[ALL]"),
        ("sshkey.spec", "map", False, "{}"),
    ],
)
def test_a_field_is_explained_in_words(path: str, type_: str, required: bool, default: str) -> None:
    found = explain(path)
    assert (found.type, found.required, found.default) == (type_, required, default)
    assert found.description


def test_a_map_lists_what_is_in_it() -> None:
    assert [child.path for child in explain("site.spec.php").children] == [
        "Site.spec.php.memoryLimit",
        "Site.spec.php.uploadMaxFilesize",
        "Site.spec.php.maxExecutionTime",
        "Site.spec.php.maxChildren",
    ]
    assert [c.path for c in explain("user").children] == [
        "User.apiVersion",
        "User.kind",
        "User.metadata",
        "User.spec",
    ]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("sit.spec", "did you mean 'site'?"),
        ("site.spec.phpversion", "did you mean 'phpVersion'?"),
        ("site.phpVersion", "did you mean 'spec.phpVersion'?"),
        ("site.spec.memoryLimit", "did you mean 'spec.php.memoryLimit'?"),
        ("site.spec.env.APP_KEY", "site.spec.env is a map with keys of your own"),
        ("site.spec.domain.x", "site.spec.domain has no fields"),
        ("user.zzz", "fields: apiVersion, kind, metadata, spec"),
        ("", "kinds: Server, Site, Database, SSHKey, User, Rollout, Defaults"),
    ],
)
def test_a_wrong_path_is_answered_with_what_was_meant(path: str, hint: str) -> None:
    with pytest.raises(UsageFault) as refused:
        explain(path)
    assert refused.value.hint == hint


def test_every_field_has_a_description() -> None:
    for kind in Kind:
        for field in fields.walk(kind):
            assert field.description, f"{kind.value}.{'.'.join(field.path)}"


def test_the_schemas_in_the_repository_are_those_of_the_models(tmp_path: Path) -> None:
    """When this fails: `python -m reconciler.desired.schema`, and read the difference."""
    assert main(str(tmp_path)) == 0
    written = {p.name: p.read_text(encoding="utf-8") for p in tmp_path.iterdir()}
    assert written == render_schemas()
    kept = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "schemas" / "v1").iterdir()}
    assert kept == written


def test_the_schema_of_every_kind_closes_its_maps_but_for_extensions() -> None:
    def maps(node: object) -> Iterator[dict[str, object]]:
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for value in node.values():
                yield from maps(value)

    for kind in Kind:
        schema = json.loads(render_schemas()[filename(kind)])
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        found = [
            m for m in maps(schema) if isinstance(m.get("properties"), dict) and m.get("type") == "object"
        ]
        assert found
        for each in found:
            assert each["additionalProperties"] is False
            assert each["patternProperties"] == {"^x-": {}}


def test_a_schema_requires_no_field_that_defaults_may_give() -> None:
    site = json.loads(render_schemas()["site.schema.json"])
    assert site["required"] == ["apiVersion", "kind", "metadata"]
    assert "required" not in site["$defs"]["SiteSpec"]
    defaults = json.loads(render_schemas()["defaults.schema.json"])
    assert set(defaults["$defs"]["DefaultsSpec"]["required"]) == {"appliesTo", "values"}


def _table(kind: Kind) -> dict[str, tuple[str, str]]:
    """The rows of a page's tables that begin with a field: path to type and default."""
    page = (SPEC / f"{kind.value.lower()}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Za-z0-9.]+)` \| ([^|]*) \| ([^|]*) \| ([^|]+) \|$", page, re.MULTILINE)
    assert len({path for path, *_ in rows}) == len(rows), "a field is in the page twice"
    return {path: (type_.strip(), default.strip()) for path, type_, default, _ in rows}


@pytest.mark.parametrize("kind", list(Kind))
def test_the_page_of_a_kind_has_every_field_with_its_type_and_default(kind: Kind) -> None:
    expected = {
        ".".join(field.path): (field.type, "required" if field.required else f"`{field.default}`")
        for field in fields.walk(kind)
    }
    assert _table(kind) == expected


def _examples() -> list[str]:
    return [
        block
        for kind in Kind
        for block in re.findall(
            r"^```yaml\n(.*?)^```$",
            (SPEC / f"{kind.value.lower()}.md").read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
    ]


def test_the_examples_of_the_pages_are_one_fleet_without_problems() -> None:
    loaded = load({f"example-{n}.yaml": text.encode() for n, text in enumerate(_examples())})
    assert [str(p) for p in loaded.problems] == []
    assert {key.kind for key in loaded.fleet.entries} == set(Kind) - {Kind.DEFAULTS}


# Codes whose input cannot be a folder of small files; tests of the reader and of the source have them.
ELSEWHERE = {
    "file-too-large",
    "too-many-nodes",
    "symlink",
    "submodule",
    "unreadable-file",
    "path-not-text",
    "locked-secret",
    "key-mismatch",
    "certificate-ends",
}


def test_every_code_of_a_problem_is_described_and_has_a_case() -> None:
    page = (SPEC / "problems.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)
    assert described == sorted(set(described))
    seen = {p.code for case in CASES.iterdir() for p in load_case(case).problems}
    assert seen | ELSEWHERE == set(described)


def test_the_codes_in_the_source_are_those_described() -> None:
    page = (SPEC / "problems.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE))
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "reconciler" / "desired").glob("*.py"))
    assert all(f'"{code}"' in source for code in described)


def test_the_fleet_of_the_demo_has_no_problems() -> None:
    loaded = load_snapshot(read_folder(ROOT / "demo" / "fleet"))
    assert problems_text(loaded) == ""
    fleet = loaded.fleet
    assert {(s.name, s.spec.os.value, s.spec.address) for s in fleet.servers()} == {
        ("web1", "alma_9", "198.18.0.11"),
        ("web2", "debian_12", "198.18.0.12"),
    }
    assert {s.spec.app_type for s in fleet.sites()} == {"wordpress", "laravel", "generic"}
    assert {s.spec.server for s in fleet.sites()} == {"web1", "web2"}
    assert all(s.spec.domain.endswith(".test") for s in fleet.sites())
    assert {(d.spec.engine, d.spec.server, d.spec.site) for d in fleet.databases()} == {
        ("mariadb", "web1", "shop"),
        ("postgresql", "web2", "crm"),
    }


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "example-infra").rglob("*.yaml"), *(ROOT / "demo" / "fleet").rglob("*.yaml")]),
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_the_modeline_of_an_example_names_the_schema_of_its_kind(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert modeline
    kinds = set(re.findall(r"^kind: (\w+)$", text, re.MULTILINE))
    schema = (path.parent / modeline[1]).resolve()
    assert schema.is_file()
    assert {filename(Kind(kind)) for kind in kinds} == {schema.name}
