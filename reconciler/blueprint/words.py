"""Steps in words for people: what a step is, and what a change of it may cost. Bodies never appear."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from reconciler.blueprint.model import Step
from reconciler.kit.canonical import Json

_DATA = frozenset({"mariadb_database", "postgresql_database", "user"})
_FPM_CONFIG = re.compile(r"/etc/panel/fpm/(?P<site>[^/]+)\.conf\Z")
_FPM_PROGRAM = re.compile(r"/etc/panel/fpm/(?P<site>[^/]+)\.php-fpm\Z")
_FPM_UNIT_FILE = re.compile(r"/etc/systemd/system/(?P<unit>panel-fpm-[^/]+\.service)\Z")
_WORKER_FILE = re.compile(r"/etc/systemd/system/(?P<unit>panel-worker-[^/]+@)\.service\Z")

_WEB_FILES = {
    "/etc/nginx/": "nginx.service",
    "/etc/caddy/": "caddy.service",
    "/etc/panel/caddy/": "caddy.service",
}
_WEB_DROP_IN = re.compile(r"/etc/systemd/system/(?P<unit>(?:nginx|caddy)\.service)\.d/")


def describe(step: Step) -> str:
    """A fragment of a sentence: `file /etc/nginx/conf.d/panel-shop.conf (0644 root:root)`, `MariaDB database shop`."""
    params, name = step.params, step.target
    if params.get("state") == "absent" and step.type in ("file", "directory", "symlink", "user", "unit"):
        return {"user": "system user", "symlink": "symbolic link"}.get(step.type, step.type) + f" {name}"
    match step.type:
        case "package" | "hostname" | "group":
            words = f"{step.type} {params['name']}"
        case "upgrade":
            words = f"newer packages of {name}"
        case "module" | "repository":
            words = (
                f"module stream {name}:{params['stream']}"
                if "stream" in params
                else f"package repository {name}"
            )
        case "user":
            words = f"system user {name} with home {params['home']}"
        case "directory" | "file":
            once = ", only if there is none" if params.get("once") else ""
            words = f"{step.type} {name} ({params['mode']} {params['owner']}:{params['group']}{once})"
        case "symlink":
            words = f"symbolic link {name} to {params['target']}"
        case "unit":
            words = f"unit {name}{_unit_state(step)}"
        case "firewall" | "sshd" | "timezone" | "swap" | "web_server" | "certificate" | "release":
            words = _describe_served(step)
        case "selinux_module" | "selinux_booleans" | "selinux_labels" | "selinux_port":
            words = f"SELinux {_describe_selinux(step)}"
        case "postgresql_cluster":
            words = f"PostgreSQL cluster in {params['data']}"
        case _:
            words = _describe_database(step)
    return words


def _describe_served(step: Step) -> str:
    params = step.params
    match step.type:
        case "web_server":
            sides = [str(params["unit"]), str(params["instead_of"])]
            return " instead of ".join(reversed(sides) if params.get("state") == "absent" else sides)
        case "firewall" | "sshd" | "timezone" | "swap":
            return _describe_host(step)
        case "certificate":
            return f"certificate of {step.target}{_issuer(step)}"
        case _:
            return f"release of site {step.target} at commit {str(params['commit'])[:12]}"


def _issuer(step: Step) -> str:
    names = step.params.get("names")
    shown = f" for {', '.join(map(str, names[:3]))}" if isinstance(names, list | tuple) else ""
    more = f" and {len(names) - 3} more" if isinstance(names, list | tuple) and len(names) > 3 else ""
    match step.params.get("issuer"):
        case "self":
            return f" (self-signed{shown}{more})"
        case "acme":
            return f" (from {step.params.get('directory')}{shown}{more})"
        case _:
            return ""


def _describe_selinux(step: Step) -> str:
    if step.type == "selinux_module":
        return f"policy module {step.target}"
    if step.type == "selinux_port":
        return f"port {step.target} ({step.params['label']})"
    return (
        f"booleans{_switches(step)}"
        if step.type == "selinux_booleans"
        else f"labels of site {step.target}{_level(step)}"
    )


def _size(value: Json) -> str:
    """Bytes in the largest unit that has no remainder, in brackets: ` (10G)`. Nothing for none."""
    if not isinstance(value, int):
        return ""
    units = (("G", 1024**3), ("M", 1024**2), ("K", 1024))
    return next(
        (f" ({value // size}{unit})" for unit, size in units if value % size == 0), f" ({value} bytes)"
    )


def _describe_host(step: Step) -> str:
    params = step.params
    words = {
        "firewall": f"firewall ({params.get('backend')})",
        "sshd": f"settings of sshd ({params.get('unit')})",
        "timezone": f"time zone {params.get('zone')}",
        "swap": f"swap file ({int(str(params.get('size', 0))) // 1024**2} MiB)",
    }
    return words[step.type]


def _switches(step: Step) -> str:
    found = step.params.get("booleans")
    if not isinstance(found, dict):
        return ""
    return " " + ", ".join(f"{name} {'on' if found[name] else 'off'}" for name in sorted(found))


def _level(step: Step) -> str:
    listed = step.params.get("labels")
    first = listed[0] if isinstance(listed, list | tuple) and listed else None
    return f" ({first['level']})" if isinstance(first, dict) else ""


def _unit_state(step: Step) -> str:
    words = {"active": ("stopped", "running"), "enabled": ("disabled", "enabled")}
    flags = ((pair, _flag(step, field)) for field, pair in words.items())
    states = [pair[flag] for pair, flag in flags if flag is not None]
    return f" ({', '.join(states)})" if states else ""


def _flag(step: Step, field: str) -> bool | None:
    value = step.params.get(field)
    return value if isinstance(value, bool) else None


def _describe_database(step: Step) -> str:
    params = step.params
    engine, _, what = step.type.partition("_")
    product = {"mariadb": "MariaDB", "postgresql": "PostgreSQL"}.get(engine)
    if step.type == "quota":
        return f"disk quota of {step.target}{_size(params.get('bytes'))}"
    if product is None:
        return f"{step.type} {step.target}"
    if what == "grant":
        login = step.target.partition("/")[2]
        granted = params.get("privileges")
        rights = ", ".join(map(str, granted)) if isinstance(granted, list | tuple) else "rights"
        return f"{product} grant of {rights} on {params['database']} to {login}"
    owner = f" owned by {params['owner']}" if "owner" in params else ""
    value = f" = {params['value']}" if "value" in params else ""
    return f"{product} {what} {step.target}{owner}{value}"


def risks(changed: Iterable[Step]) -> frozenset[str]:
    """What applying the changed steps of a resource may cost, as `<risk> <what>`.

    The first word is `reload`, `restart` (both of a unit; a restart is a short downtime of what it serves),
    `downtime` (the unit is stopped) or `data-loss` (a database or a home is removed; the agent archives it first).
    A unit whose own step is among `changed` is being started, so nothing that it serves is disturbed.
    """
    steps = tuple(changed)
    own = {step.target for step in steps if step.type == "unit"}
    found: set[str] = set()
    for step in steps:
        found |= _risks_of(step, own)
    # a restart swallows the reload of the same unit
    return frozenset(w for w in found if not (w.startswith("reload ") and f"restart {w[7:]}" in found))


def _starts(template: str, own: Collection[str]) -> bool:
    return any(unit.startswith(template) for unit in own)


def _risks_of(step: Step, own: Collection[str]) -> set[str]:
    absent = step.params.get("state") == "absent"
    if step.type == "unit":
        stopped = absent or _flag(step, "active") is False
        return {f"downtime {step.target}"} if stopped and not step.target.startswith("panel-cron-") else set()
    if step.type in _DATA:
        return {f"data-loss {step.key}"} if absent else set()
    if step.type == "certificate" and isinstance(step.params.get("unit"), str):
        return {f"reload {step.params['unit']}"}
    if step.type not in ("file", "symlink"):
        return _risks_of_engine(step, own)
    for prefix, unit in _WEB_FILES.items():
        if step.target.startswith(prefix):
            return {f"reload {unit}"}
    match = _FPM_CONFIG.match(step.target) or _FPM_PROGRAM.match(step.target)
    if match and f"panel-fpm-{match['site']}.service" not in own:
        return {f"reload panel-fpm-{match['site']}.service"}
    if (match := _FPM_UNIT_FILE.match(step.target)) and match["unit"] not in own:
        return {f"restart {match['unit']}"}
    if match := _WORKER_FILE.match(step.target):
        # that of a worker that is being made, or removed, disturbs none
        return set() if absent or _starts(match["unit"], own) else {f"restart {match['unit']}.service"}
    if (match := _WEB_DROP_IN.match(step.target)) and match["unit"] not in own:
        return {f"restart {match['unit']}"}
    return _risks_of_engine(step, own)


def _risks_of_engine(step: Step, own: Collection[str]) -> set[str]:
    """What a step of a database engine as a whole does to everybody who uses it."""
    if step.type == "postgresql_setting" and "postgresql.service" not in own:
        return {"restart postgresql.service"}
    if step.target.endswith("/pg_hba.conf") and "postgresql.service" not in own:
        return {"reload postgresql.service"}
    if step.target.startswith(("/etc/my.cnf.d/", "/etc/mysql/")) and "mariadb.service" not in own:
        return {"restart mariadb.service"}
    return set()
