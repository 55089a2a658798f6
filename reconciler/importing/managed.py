"""What Reconciler itself made on a node whose manifests or state were lost: the manifests that render to the same steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Database, Kind, Resource, Server, Site
from reconciler.desired.kinds.common import Model
from reconciler.desired.kinds.serving import Proxy
from reconciler.desired.kinds.site import AppType, PhpSettings
from reconciler.desired.scalars import duration
from reconciler.importing import fit, sizes
from reconciler.importing.draft import Draft, Note, shown
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import FoundDatabase, Host, Inventory, KeptSection
from reconciler.plan import manifests
from reconciler.platforms import Platform
from reconciler.selinux import mcs

_PHP = re.compile(r"(?:php-fpm([78]\.[0-9])|/opt/remi/php([78])([0-9])/)")
_SHELL = re.compile(r'/bin/sh -c "(.*)"\Z')


_RENEWED = (
    "its password is not on the node in a form that can be read: the next apply makes a new one and writes it to the "
    ".env of its site"
)


@dataclass
class Managed:
    """Drafts, what the report says of them, and the addresses whose every step is explained. `known` are declared."""

    known: list[Draft] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    fitting: set[str] = field(default_factory=set)


def server(draft: Draft, found: Inventory, kept: KeptSection, platform: Platform) -> Server | None:
    """Complete the spec of the Server's draft by what the kept steps tell; None when it is no valid manifest."""
    keys = {step.key for step in kept.steps}
    spec = draft.spec
    versions = [v for v in platform.php_versions if f"package:{platform.php.packages_of(v)[0]}" in keys]
    engines = [("mariadb", platform.mariadb.unit), ("postgresql", platform.postgresql.unit)]
    spec["databaseEngines"] = [engine for engine, unit in engines if f"unit:{unit}" in keys]
    spec["software"] = {"php": list(versions)}
    if "package:caddy" in keys and "package:nginx" not in keys:
        spec["webServer"] = "caddy"
    if "hostname:node" in keys:
        spec["hostname"] = found.facts.hostname
    best: tuple[int, dict[str, Json]] | None = None
    for mode in dict.fromkeys((found.facts.selinux, "enforcing", "permissive", "disabled")):
        tried = {**spec, "selinux": {"mode": mode}}
        made = fit.parse(Draft(Kind.SERVER, draft.name, tried))
        if not isinstance(made, Server):
            continue
        wrong = len(fit.differing(fit.rendered(made, (), {}).get(draft.address), kept))
        if best is None or wrong < best[0]:
            best = (wrong, tried)
    if best is not None:
        spec.update(best[1])
    made = fit.parse(draft)
    return made if isinstance(made, Server) else None


def take(found: Inventory, manifest: Server, known: Fleet) -> Managed:
    """Databases and sites of the kept bundle, whose server is `manifest`. What `known` declares is taken from there."""
    made = Managed()
    sections = {section.id: section for section in found.managed.sections}
    databases: dict[str, Database] = {}
    for section in sections.values():
        if section.id.startswith("Database/"):
            parsed = _declared(section, known, made) or _database(
                section, sections, found, manifest.name, made
            )
            if isinstance(parsed, Database):
                databases[section.id] = parsed
    for section in sections.values():
        if section.id.startswith("Site/"):
            mine = [databases[need] for need in section.needs if need in databases]
            _site(section, found, manifest, mine, known, made)
    return made


def _database(
    kept: KeptSection,
    sections: dict[str, KeptSection],
    found: Inventory,
    server_name: str,
    made: Managed,
) -> Database | None:
    pairs = [step.key.partition(":")[::2] for step in kept.steps]
    # users of other machines are called name@host
    names = {kind: target for kind, target in pairs if "@" not in target}
    if any("@" in target for _, target in pairs):
        made.notes.append(Note(kept.id, "its remoteAccess is not read back: write it into the manifest"))
    engine = "mariadb" if "mariadb_database" in names else "postgresql"
    name, user = (
        names.get(f"{engine}_database", ""),
        names.get("mariadb_user") or names.get("postgresql_role", ""),
    )
    if not name or not user:
        return None
    spec: dict[str, Json] = {"server": server_name}
    users = [id_ for id_, section in sections.items() if kept.id in section.needs and id_.startswith("Site/")]
    if users:
        spec["site"] = users[0].partition("/")[2]
    spec |= {"engine": engine, "name": name, "username": user}
    privileges = _privileges(found.databases, engine, name, user)
    if privileges not in ([], ["ALL"]):
        spec["privileges"] = list(privileges)
    draft = Draft(Kind.DATABASE, kept.id.partition("/")[2], spec)
    parsed = fit.parse(draft)
    if not isinstance(parsed, Database):
        made.notes.append(Note(kept.id, "is no valid manifest any more; write it by hand"))
        return None
    draft.comments.append(
        "Found in what Reconciler applied to the node. Its deletionPolicy and drift are not on the node"
    )
    made.notes.append(Note(kept.id, _RENEWED))
    made.drafts.append(draft)
    return parsed


def _declared(kept: KeptSection, known: Fleet, made: Managed) -> Resource | None:
    """A resource that the fleet declares, with what is to be known of it."""
    word, _, name = kept.id.partition("/")
    found = known.get(Kind(word), name)
    if found is not None:
        value = manifests.to_json(found)["spec"]
        if isinstance(value, dict):
            made.known.append(Draft(Kind(word), name, dict(value)))
        if isinstance(found, Database):
            made.notes.append(Note(kept.id, _RENEWED))
    return found


def _privileges(found: Iterable[FoundDatabase], engine: str, name: str, user: str) -> list[str]:
    for one in found:
        if (one.engine, one.name) == (engine, name) and one.owner != user:
            return next((list(rights.privileges) for rights in one.grants if rights.user == user), [])
    return []


def _site(
    kept: KeptSection,
    found: Inventory,
    manifest: Server,
    databases: Sequence[Database],
    known: Fleet,
    made: Managed,
) -> None:
    name = kept.id.partition("/")[2]
    user = next((step.key.partition(":")[2] for step in kept.steps if step.key.startswith("user:")), "")
    if not user:
        return
    identity = {"system_user": user}
    if (number := mcs.of_user(user)) is not None:
        identity["mcs_id"] = str(number)
    declared = _declared(kept, known, made)
    if isinstance(declared, Site):
        draft = made.known[-1]
        draft.identity.update(identity)
        sections = fit.rendered(manifest, [declared, *databases], {Key(Kind.SITE, name): identity})
        _judge(draft, fit.differing(sections.get(kept.id), kept), user, made)
        return
    hosts = _hosts(kept, found)
    if not hosts:
        text = "its virtual host is not on the node any more; write the manifest by hand"
        made.notes.append(Note(kept.id, text))
        return
    best: tuple[int, list[str], dict[str, Json]] | None = None
    for spec in _candidates(name, user, kept, hosts, found, manifest):
        parsed = fit.parse(Draft(Kind.SITE, name, spec))
        if not isinstance(parsed, Site):
            continue
        sections = fit.rendered(manifest, [parsed, *databases], {Key(Kind.SITE, name): identity})
        wrong = fit.differing(sections.get(kept.id), kept)
        if best is None or len(wrong) < best[0]:
            best = (len(wrong), wrong, spec)
        if not wrong:
            break
    if best is None:
        made.notes.append(Note(kept.id, "could not be read back from the node; write the manifest by hand"))
        return
    draft = Draft(Kind.SITE, name, best[2], identity=identity)
    draft.comments.append(
        "Found in what Reconciler applied to the node. Labels, drift and healthChecks are not on the node"
    )
    _judge(draft, best[1], user, made)
    made.drafts.append(draft)


def _judge(draft: Draft, wrong: list[str], user: str, made: Managed) -> None:
    """Say what the manifest does not explain; a `.env` with lines that nobody knows is not to be written over."""
    env = f"file:/home/{user}/.env"
    if env in wrong and draft not in made.known:
        draft.spec["suspend"] = True
        draft.comments.append(
            f"suspended: /home/{user}/.env holds variables that no manifest tells, and an apply would write"
        )
        draft.comments.append("it anew. Put them into spec.env, then take suspend away")
        told = f"its .env is not read and holds more than the manifest tells: it is suspended until spec.env has what /home/{user}/.env holds"
        made.notes.append(Note(draft.address, told))
    rest = [key for key in wrong if key != env or draft in made.known]
    if rest:
        listed = ", ".join(shown(key, 120) for key in rest[:6]) + (
            f" and {len(rest) - 6} more" if len(rest) > 6 else ""
        )
        told = f"the manifest does not explain these as they are, and an apply changes them: {listed}"
        made.notes.append(Note(draft.address, told))
    if not wrong:
        made.fitting.add(draft.address)


def _hosts(kept: KeptSection, found: Inventory) -> list[Host]:
    paths = {
        step.key.partition(":")[2]
        for step in kept.steps
        if step.key.startswith(("file:/etc/nginx/", "symlink:/etc/nginx/"))
    }
    mine = [host for host in found.hosts if host.file in paths]
    return mine or [host for host in found.hosts if serves(host, kept)]


def serves(host: Host, kept: KeptSection) -> bool:
    """Whether a virtual host leads to a site of ours, by its socket or its home: caddy does not say which file it is from."""
    site = kept.id.partition("/")[2]
    homes = [f"/home/{step.key.partition(':')[2]}/" for step in kept.steps if step.key.startswith("user:")]
    places = [host.root + "/", *(address.partition(":")[2] for address in (*host.php, *host.proxy))]
    return f"unix:/run/panel-fpm/{site}/php.sock" in host.php or any(
        home in place for home in homes for place in places
    )


def _candidates(
    name: str, user: str, kept: KeptSection, hosts: Sequence[Host], found: Inventory, manifest: Server
) -> Iterator[dict[str, Json]]:
    """Manifests that may be meant: what the files tell, in every kind of application and state."""
    units = found.managed.units
    common: dict[str, Json] = {"server": manifest.name, **_names(kept, hosts)}
    php: dict[str, Json] = _php(name, found)
    version = _version(units.get(f"panel-fpm-{name}.service", {}).get("ExecStart", ""))
    limits = _limits(units.get(f"panel-site-{name.replace('-', '_')}.slice", {}))
    quota = next((str(step.size) for step in kept.steps if step.key == f"quota:{user}"), "")
    if (disk := sizes.size(quota)) is not None:
        limits["disk"] = disk
    jobs: dict[str, Json] = {}
    if cron := list(_cron(name, units)):
        jobs["cron"] = cron
    if workers := list(_workers(name, kept, units)):
        jobs["workers"] = workers
    versions: list[str | None] = [version] if version else [None, *manifest.spec.software.php]
    roots = _document_roots(user, kept)
    secured: list[dict[str, Json]] = [{}]
    if any(host.certificate for host in hosts):
        secured = [{"tls": {"mode": "selfSigned"}}, {"tls": {"mode": "acme"}}]
    for app, chosen, state, tls in product(get_args(AppType), versions, ("active", "suspended"), secured):
        spec = {**common, "appType": app, **tls}
        if chosen is not None:
            spec["phpVersion"] = chosen
        if app == "proxy":
            spec["proxy"] = _proxy(hosts, user)
        elif roots and not (app == "laravel" and roots == "public"):
            spec["documentRoot"] = roots
        spec |= {"php": php} if php else {}
        spec |= {"limits": limits} if limits else {}
        spec |= jobs
        if state == "suspended":
            spec["state"] = state
        yield spec
        if app == "proxy":
            yield {**spec, "proxy": {**_proxy(hosts, user), "websockets": True}}


def _names(kept: KeptSection, hosts: Sequence[Host]) -> dict[str, Json]:
    # of a site with TLS, what answers over HTTP sends on to HTTPS under the same names
    main = next((host for host in hosts if not host.redirect), hosts[-1])
    others = [
        host.names[0] for host in hosts if host.redirect and host.names and host.names[0] not in main.names
    ]
    other = others[0] if others else ""
    names = list(dict.fromkeys(main.names))
    domain, given = names[0] if names else "", {}
    if other:
        # written with the domain without www.; the other spelling means the same
        given = {"www": "add" if domain.startswith("www.") else "strip"}
        domain = domain.removeprefix("www.")
    files = {step.key.rpartition("/")[2] for step in kept.steps if step.key.startswith("file:/etc/nginx/")}
    for name in (*names, other):
        if f"{name}.conf" in files:
            domain = name
    spec: dict[str, Json] = {"domain": domain}
    if aliases := [
        name for name in names if name not in (domain, other) and not (other and name == f"www.{domain}")
    ]:
        spec["aliases"] = list(aliases)
    return spec | given


def _document_roots(user: str, kept: KeptSection) -> str:
    head = f"file:/home/{user}/public_html/"
    found = [step.key[len(head) :] for step in kept.steps if step.key.startswith(head)]
    return found[0].rpartition("/")[0] if found else ""


def _php(name: str, found: Inventory) -> dict[str, Json]:
    for pool in found.pools:
        if pool.file == f"/etc/panel/fpm/{name}.conf":
            given: dict[str, Json | None] = {
                "memoryLimit": sizes.size(pool.limits.get("memory_limit", "")),
                "uploadMaxFilesize": sizes.size(pool.limits.get("upload_max_filesize", "")),
                "maxExecutionTime": sizes.number(pool.limits.get("max_execution_time", ""), 1, 3600),
                "maxChildren": sizes.number(pool.children, 1, 500),
            }
            return _beyond(PhpSettings, given)
    return {}


def _beyond(model: type[Model], given: dict[str, Json | None]) -> dict[str, Json]:
    """The values that are given and are not what the manifest means without them."""
    usual = {field.alias or name: field.default for name, field in model.model_fields.items()}
    return {key: value for key, value in given.items() if value is not None and usual.get(key) != value}


def _version(start: str) -> str | None:
    match = _PHP.search(start)
    if match is None:
        return None
    return match[1] or f"{match[2]}.{match[3]}"


def _limits(values: dict[str, str]) -> dict[str, Json]:
    given: dict[str, Json | None] = {
        "memory": sizes.size(values.get("MemoryMax", "")),
        "cpu": values.get("CPUQuota"),
        "tasks": sizes.number(values.get("TasksMax", ""), 16, 100000),
    }
    return {key: value for key, value in given.items() if value is not None}


def _proxy(hosts: Sequence[Host], user: str) -> dict[str, Json]:
    host = next((host for host in hosts if host.proxy), None)
    if host is None:
        return {}
    target = host.proxy[0].removeprefix("http://unix:")
    upstream = f"unix:{target.removeprefix(f'/home/{user}/')}" if target != host.proxy[0] else host.proxy[0]
    seconds = sizes.number(host.timeout.removesuffix("s"), 1, 86400)
    given: dict[str, Json | None] = {
        "upstream": upstream,
        "maxBodySize": sizes.size(host.body_limit),
        "timeout": duration(seconds) if seconds is not None else None,
    }
    return _beyond(Proxy, given)


def _cron(name: str, units: dict[str, dict[str, str]]) -> Iterator[dict[str, Json]]:
    head = f"panel-cron-{name}_"
    for unit, values in units.items():
        if unit.startswith(head) and unit.endswith(".timer"):
            job = unit[len(head) : -len(".timer")]
            service = units.get(f"{head}{job}.service", {})
            spec: dict[str, Json] = {
                "name": job,
                "schedule": values.get("schedule", ""),
                "command": _command(service),
            }
            if (timeout := sizes.number(service.get("TimeoutStartSec", ""), 1, 86400)) not in (None, 3600):
                spec["timeout"] = duration(timeout or 1)
            yield spec


def _workers(name: str, kept: KeptSection, units: dict[str, dict[str, str]]) -> Iterator[dict[str, Json]]:
    head = f"panel-worker-{name}_"
    for unit, values in units.items():
        if unit.startswith(head) and unit.endswith("@.service"):
            worker = unit[len(head) : -len("@.service")]
            copies = sum(step.key.startswith(f"unit:{head}{worker}@") for step in kept.steps)
            spec: dict[str, Json] = {"name": worker, "command": _command(values)}
            if copies > 1:
                spec["replicas"] = copies
            yield spec


def _command(values: dict[str, str]) -> str:
    """What `blueprint.escape.unit_argument` wrote, read back."""
    match = _SHELL.match(values.get("ExecStart", ""))
    if match is None:
        return ""
    text = match[1].replace("$$", "$").replace("%%", "%")
    return re.sub(r"\\(.)", r"\1", text)
