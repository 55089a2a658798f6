"""Every text field of every kind, found in the generated schemas, and manifests with a given value in one of them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.desired.fleet import Fleet, Loaded
from reconciler.desired.tree import load

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "v1"
Schema = Mapping[str, Any]
Part = str | int

VALUES = {
    "command": "; rm -rf /",
    "quotes": "a\"b'c`d",
    "up": "../../etc/passwd",
    "newline": "a\nUser=root",
    "carriage": "a\rroot",
    "nul": "a\x00b",
    "lookalike": "sh\u043ep.ex\u0430mple.test",
    "direction": "a\u202eb\u2028c",
    "substitution": "$(id)${HOME}$PATH",
    "template": "{{7*191}}{% raw %}",
    "block": "x; } server { listen 81",
    "comment": "x # y ; z",
    "percent": "%h%%n%i",
    "backslash": "a\\",
    "bracket": "]\n[global]",
    "sql": "x'; DROP TABLE users; --",
    "long": "a" * 70_000,
}

# Values that some field or other takes; the first that makes the whole manifest valid stands for the field.
PLAIN = (
    "web1", "shop", "SHOP", "Shop", "plain.example.test", "203.0.113.77", "10.9.0.0/16", "8.2", "128M", "30m", "@daily",
    "5m", "100%", "/old", "/new", "http://127.0.0.1:3000", "unix:app.sock", "X-Plain", "a/b", "ada@example.test",
    "UTC", "Europe/Berlin", "mon-fri", "mon", "02:00", "03:00", "2026-12-24", "/health", "200", "tier=one", "spec.env", "1.2.3.4", "nginx.service",
    "file:/home/web1/.env", "allow laravel_nginx_t port_t:tcp_socket name_connect;", "admin", "reconciler/v1", "main", "2030-01-01", "1h",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhGmLPz0i3wAqVhFbO4k3Yl2wNDpG1e9ZJ8v8vUq3nM",
)  # fmt: skip

# What must stand beside a field whose form does not say what it takes.
BESIDE = {"schedule": "@daily", "timeout": "30s", "command": "true", "days": ["mon"], "unit": "nginx.service"}

BASE: dict[str, dict[str, Any]] = {
    "server": {"kind": "Server", "metadata": {"name": "web1"}, "spec": {
        "address": "203.0.113.10", "os": "debian_12", "sshKey": "admin", "databaseEngines": ["mariadb", "postgresql"],
        "software": {"php": ["8.2"]}}},
    "site": {"kind": "Site", "metadata": {"name": "shop"}, "spec": {
        "server": "web1", "domain": "shop.example.test", "appType": "generic", "phpVersion": "8.2"}},
    "database": {"kind": "Database", "metadata": {"name": "shop"}, "spec": {
        "server": "web1", "site": "shop", "engine": "mariadb", "name": "shop", "username": "shop"}},
    "sshkey": {"kind": "SSHKey", "metadata": {"name": "admin"}, "spec": {}},
    "user": {"kind": "User", "metadata": {"name": "ada"}, "spec": {"email": "ada@example.test"}},
    "rollout": {"kind": "Rollout", "metadata": {"name": "slow"}, "spec": {}},
    "defaults": {"kind": "Defaults", "metadata": {"name": "all"}, "spec": {
        "appliesTo": "Site", "matchLabels": {"tier": "one"}, "values": {}}},
}  # fmt: skip
for _document in BASE.values():
    _document["apiVersion"] = "reconciler/v1"


@dataclass(frozen=True)
class Slot:
    """A text field: its path, and at each step the schema of what stands there. A step `{}` is the key of a map."""

    kind: str
    path: tuple[Part, ...]
    chain: tuple[Schema, ...]

    def __str__(self) -> str:
        return f"{self.kind}:" + ".".join(map(str, self.path))


def slots() -> list[Slot]:
    """Every text field of every kind, in the order of the schemas."""
    found = []
    for kind in BASE:
        root = json.loads((SCHEMAS / f"{kind}.schema.json").read_text())
        found += list(_walk(kind, root, root, (), ()))
    return list({str(slot): slot for slot in found}.values())


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _walk(
    kind: str, schema: Schema, root: Schema, path: tuple[Part, ...], chain: tuple[Schema, ...]
) -> Iterator[Slot]:
    schema = _resolved(schema, root)
    if len(path) > 10:
        return
    chain = (*chain, schema)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _walk(kind, {**branch, "description": ""}, root, path, chain[:-1])
    if schema.get("type") == "string" and "enum" not in schema and "const" not in schema:
        yield Slot(kind, path, chain)
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(kind, inner, root, (*path, name), chain)
    if isinstance(inner := schema.get("items"), dict):
        yield from _walk(kind, inner, root, (*path, 0), chain)
    maps = [
        v for v in (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()) if v
    ]
    if any(isinstance(value, dict) and value for value in maps):
        inner = next(value for value in maps if isinstance(value, dict) and value)
        yield Slot(kind, (*path, "{}"), (*chain, inner))
        for inner in maps:
            if isinstance(inner, dict) and inner:
                yield from _walk(kind, inner, root, (*path, "*"), chain)


class Maker:
    """Makes fleets with one field of one manifest set."""

    def __init__(self) -> None:
        self._roots = {k: json.loads((SCHEMAS / f"{k}.schema.json").read_text()) for k in BASE}

    def loaded(self, slot: Slot, value: str, web: str = "nginx") -> Loaded:
        """The fleet on a web server whose `slot` holds `value`; everything beside it is plain."""
        documents = copy.deepcopy(BASE)
        documents["server"]["spec"]["webServer"] = web
        self._set(documents[slot.kind], slot, value)
        spec = documents["site"]["spec"]
        if slot.kind == "site" and slot.path[:2] == ("spec", "proxy"):
            spec |= {"appType": "proxy"}
            spec.pop("phpVersion", None)
        files = {f"{kind}.yaml": json.dumps(document).encode() for kind, document in documents.items()}
        return load(files)

    def _set(self, document: dict[str, Any], slot: Slot, value: str) -> None:
        at: Any = document
        for place, part in enumerate(slot.path):
            last = place == len(slot.path) - 1
            schema = slot.chain[place]
            if part == "{}":
                at[value] = _example(slot.chain[-1], self._roots[slot.kind])
                return
            key: Part = "PLAIN" if part == "*" else part
            if isinstance(at, dict):
                for name in schema.get("required", ()):
                    beside = _resolved(schema["properties"][name], self._roots[slot.kind])
                    at.setdefault(name, BESIDE.get(name) or _example(beside, self._roots[slot.kind]))
            inner: Any = value if last else ([] if slot.path[place + 1] == 0 else {})
            if isinstance(at, list):
                at.append(inner)
                at = at[-1]
            else:
                if last or not isinstance(at.get(key), dict):
                    at[key] = inner
                at = at[key]


def _example(schema: Schema, root: Schema) -> Any:
    """A plain value of a schema; texts that have to look in a certain way take the first plain one that does."""
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        return _example(branch, root)
    match schema.get("type"):
        case "string":
            pattern = re.compile(schema.get("pattern", ""))
            return next((text for text in PLAIN if pattern.search(text)), PLAIN[0])
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return [_example(schema["items"], root)] if schema.get("minItems") else []
        case "object":
            needed = schema.get("required", ())
            return {name: _example(schema["properties"][name], root) for name in needed}
        case _:
            return None


def sound(loaded: Loaded) -> Fleet | None:
    """The fleet when nothing is wrong with it."""
    return None if loaded.errors else loaded.fleet
