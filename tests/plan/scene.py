"""What the tests of planning share: a small renderer, recorded states made by applying plans, manifests from words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.blueprint.model import Body, Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Loaded, Origin
from reconciler.desired.kinds import MODELS, Kind, Resource, Server
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.kit.secret import Secret
from reconciler.plan.make import make_plan
from reconciler.plan.model import Action, Plan
from reconciler.plan.recorded import Recorded, RecordedResource

AT = "2026-01-31T12:00:00Z"
ENGINE = "test"


@dataclass(frozen=True)
class Head:
    commit: str = "c0ffee" * 6
    author_name: str = ""
    author_email: str = ""


class Renderer:
    """Like the blueprints, with few steps; `version` stands for templates that change with the program."""

    def __init__(self, version: str = "1") -> None:
        self.version = version

    def sections(
        self, server: Server, fleet: Fleet, identities: Mapping[Key, Mapping[str, str]]
    ) -> Sequence[Section]:
        made = [Section(server.address, tuple(self._server(server)))]
        databases = list(fleet.databases(server.name))
        for database in databases:
            spec = database.spec
            steps = (
                _step(f"{spec.engine}_database", spec.name, name=spec.name),
                _step(f"{spec.engine}_user", spec.username, name=spec.username),
            )
            made.append(Section(database.address, steps, (server.address,)))
        for site in fleet.sites(server.name):
            user = identities[site_key(site.name)]["system_user"]
            logins = [d.spec.username for d in databases if d.spec.site == site.name]
            env = Body.of(Secret(json.dumps([site.spec.env, logins])))
            home = f"/home/{user}"
            unit = f"panel-fpm-{site.name}.service"
            conf = f"/etc/panel/fpm/{site.name}.conf"
            made.append(
                Section(
                    site.address,
                    (
                        _step("user", user, name=user, home=home),
                        replace(
                            _step("file", f"{home}/.env", path=f"{home}/.env", sha256=env.sha256), body=env
                        ),
                        _file(conf, f"{site.spec.php}{self.version}"),
                        _file(f"/etc/systemd/system/{unit}", f"{site.spec.php_version} {user}"),
                        _step(
                            "unit",
                            unit,
                            name=unit,
                            reload_on=[f"file:{conf}"],
                            restart_on=[f"file:/etc/systemd/system/{unit}"],
                        ),
                        _file(
                            f"/etc/nginx/conf.d/{site.name}.conf",
                            f"{site.spec.domain}{site.spec.aliases}{site.spec.state}",
                        ),
                    ),
                    (server.address,),
                )
            )
        return made

    def _server(self, server: Server) -> Iterable[Step]:
        yield _step("package", "nginx", name="nginx")
        for version in server.spec.software.php:
            yield _step("package", f"php{version}", name=f"php{version}")
        yield _step(
            "unit", "nginx.service", name="nginx.service", reload_on=["file:/etc/nginx/*"], restart_on=[]
        )

    def removals(self, before: Sequence[Step], keep: Collection[str]) -> Sequence[Step]:
        gone = [s for s in reversed(before) if s.key not in keep and s.type != "package"]
        return [Step(s.type, s.target, {"state": "absent"}) for s in gone]

    def describe(self, step: Step) -> str:
        return f"{step.type} {step.target}"


def _step(kind: str, target: str, **params: Json) -> Step:
    return Step(kind, target, params)


def _file(path: str, content: str) -> Step:
    body = Body.of(content)
    return Step("file", path, {"path": path, "sha256": body.sha256}, body)


def site_key(name: str) -> Key:
    return Key(Kind.SITE, name)


def manifest(kind: Kind, name: str, /, annotations: Mapping[str, str] | None = None, **spec: Any) -> Resource:
    """A valid manifest with what the kind needs; `spec` overrides and adds."""
    needed: dict[Kind, dict[str, Any]] = {
        Kind.SERVER: {
            "address": "203.0.113.1",
            "os": "rocky_9",
            "sshKey": "ops",
            "databaseEngines": ["mariadb", "postgresql"],
            "software": {"php": ["8.2", "8.4"]},
        },
        Kind.SITE: {"server": "web1", "domain": f"{name}.test", "phpVersion": "8.2"},
        Kind.DATABASE: {
            "server": "web1",
            "engine": "mariadb",
            "name": name.replace("-", "_"),
            "username": name.replace("-", "_"),
        },
        Kind.SSH_KEY: {},
        Kind.USER: {"email": f"{name}@fleet.test"},
    }
    value = {
        "apiVersion": "reconciler/v1",
        "kind": kind.value,
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": needed[kind] | spec,
    }
    return MODELS[kind].model_validate_json(json.dumps(value))  # type: ignore[return-value]


def fleet_of(*manifests: Resource, broken: Iterable[Key] = (), whole: bool = True) -> Loaded:
    entries = {
        Key(m.kind_name, m.name): Entry(m, Origin(Source(f"{m.kind.lower()}s/{m.name}.yaml", 1, 1)))
        for m in manifests
    }
    return Loaded(Fleet(entries, frozenset(broken), whole))


def usual(**site: Any) -> list[Resource]:
    """A key, a server, a site with its database."""
    return [
        manifest(Kind.SSH_KEY, "ops"),
        manifest(Kind.SERVER, "web1"),
        manifest(Kind.SITE, "shop", **site),
        manifest(Kind.DATABASE, "shop-db", site="shop"),
    ]


def plan_of(loaded: Loaded, recorded: Recorded | None = None, **inputs: Any) -> Plan:
    given: dict[str, Any] = {
        "head": Head(),
        "created_at": AT,
        "engine": ENGINE,
        "renderer": Renderer(),
        **inputs,
    }
    return make_plan(loaded, recorded or Recorded(), **given)


def apply(plan: Plan, recorded: Recorded, renderer: Renderer | None = None) -> Recorded:
    """The recorded state after an apply in which all went well."""
    renderer = renderer or Renderer()
    kept: dict[Key, RecordedResource] = {}
    for change in plan.changes:
        old = recorded.resources.get(change.previous or change.key)
        if change.action in (Action.DELETE, Action.FORGET):
            continue
        if change.action is Action.NO_OP:
            if old is not None:
                kept[change.key] = old
            continue
        assert change.after is not None
        kept[change.key] = RecordedResource(
            key=change.key,
            manifest=change.after,
            server=change.server,
            steps=old.steps if old else (),
            identity=change.identity,
            revision=plan.head_commit,
            source=change.source,
        )
    touched = {c.address for c in plan.effective if c.steps}
    models = {key: MODELS[key.kind].model_validate_json(json.dumps(r.manifest)) for key, r in kept.items()}
    fleet = Fleet({key: Entry(m, Origin(Source(""))) for key, m in models.items()})  # type: ignore[arg-type]
    identities = {key: r.identity for key, r in kept.items()}
    for server in fleet.servers():
        for section in renderer.sections(server, fleet, identities):
            kind, _, name = section.id.partition("/")
            key = Key(Kind(kind), name)
            if section.id in touched:
                recorded_steps = tuple(
                    Step.from_json(json.loads(json.dumps(s.to_json()))) for s in section.steps
                )
                kept[key] = replace(kept[key], steps=recorded_steps)
    numbers = dict(recorded.next_site_number)
    for key, r in kept.items():
        if key.kind is Kind.SITE and r.server and (user := r.identity.get("system_user", "")):
            numbers[r.server] = max(numbers.get(r.server, 1), int(user.removeprefix("web")) + 1)
    return Recorded(kept, recorded.serial + 1, recorded.lineage or "lineage", plan.head_commit, numbers)


def recorded_of(loaded: Loaded, renderer: Renderer | None = None) -> Recorded:
    """The recorded state after `loaded` was applied to nothing."""
    return apply(plan_of(loaded, renderer=renderer or Renderer()), Recorded(), renderer)


def only(plan: Plan, address: str) -> Any:
    """The change of one resource."""
    (change,) = [c for c in plan.changes if c.address == address]
    return change
