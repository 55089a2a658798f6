"""What a site's units and configuration files tell of its Site: PHP, jobs, limits, Redis, releases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from reconciler.desired.kinds.serving import Limits
from reconciler.desired.kinds.site import PhpSettings
from reconciler.desired.kinds.site import Redis as RedisSettings
from reconciler.desired.scalars import duration
from reconciler.importing import sizes
from reconciler.importing.vhost import beyond
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Inventory, KeptSection, KeptStep

_PHP = re.compile(r"(?:php-fpm([78]\.[0-9])|/opt/remi/php([78])([0-9])/)")
_SHELL = re.compile(r'(?:ExecStart=)?/bin/sh -c "(.*)"\Z')
_USUAL_TIMEOUT = 3600
_USUAL_BUILD = 900
_USUAL_KEEP = 5


def spec(name: str, user: str, kept: KeptSection, found: Inventory) -> dict[str, Json]:
    """The fields `php`, `limits`, `redis`, `cron` and `workers`, those that are not the default."""
    units = found.managed.units
    quota = next((str(step.size) for step in kept.steps if step.key == f"quota:{user}"), "")
    given: dict[str, Json] = {
        "php": _php(name, found),
        "limits": _limits(units.get(f"panel-site-{name.replace('-', '_')}.slice", {}), quota),
        "cron": list(_cron(name, units)),
        "workers": list(_workers(name, kept, units)),
    }
    made: dict[str, Json] = {field: value for field, value in given.items() if value}
    redis = found.managed.files.get(f"/etc/panel/redis/{name}.conf", "")
    if match := re.search(r"^maxmemory ([0-9]+[kmg]b)$", redis, re.M):
        made["redis"] = beyond(RedisSettings, {"memory": sizes.size(match[1])})
    return made


def php_version(name: str, found: Inventory) -> str | None:
    """The version of the site's own php-fpm; None when it has none."""
    start = found.managed.units.get(f"panel-fpm-{name}.service", {}).get("ExecStart", "")
    match = _PHP.search(start)
    if match is None:
        return None
    return match[1] or f"{match[2]}.{match[3]}"


def release(kept: KeptSection) -> KeptStep | None:
    """The step of a release, for a site that is deployed from git."""
    return next((step for step in kept.steps if step.key.startswith("release:")), None)


def source_told(name: str, step: KeptStep, found: Inventory) -> list[str]:
    """Lines of YAML: `source` as far as the node knows it, to be completed."""
    spec: dict[str, Json] = {"repository": "ADDRESS", "branch": "NAME", **source_spec(name, step, found)}
    return [
        f"(the commit that is served: {step.values.get('commit')})",
        *yaml.safe_dump({"source": spec}, sort_keys=False, width=4096).splitlines(),
    ]


def source_spec(name: str, step: KeptStep, found: Inventory) -> dict[str, Json]:
    """`source` less the repository and what is followed there, which are not on a node."""
    values = step.values
    spec: dict[str, Json] = {}
    for field, unit in (("build", "build"), ("after", "after")):
        text = found.managed.files.get(f"/etc/systemd/system/panel-{unit}-{name}@.service", "")
        commands: list[Json] = [shell(line) for line in text.splitlines() if line.startswith("ExecStart=")]
        if commands:
            spec[field] = commands
    spec["shared"] = values.get("shared", [])
    seconds, keep = values.get("seconds"), values.get("keep")
    if isinstance(seconds, int) and seconds != _USUAL_BUILD:
        spec["timeout"] = duration(seconds)
    if keep != _USUAL_KEEP:
        spec["keep"] = keep
    check = values.get("check")
    if isinstance(check, Mapping):
        wanted = {field: check.get(field) for field in ("path", "status", "contains")}
        given: dict[str, Json] = {
            k: v for k, v in wanted.items() if v is not None and (k, v) != ("path", "/")
        }
        if given:
            spec["healthCheck"] = given
    return spec


def shell(line: str) -> str:
    """What `blueprint.escape.unit_argument` wrote behind `/bin/sh -c`, read back; empty for another line."""
    match = _SHELL.match(line)
    if match is None:
        return ""
    text = match[1].replace("$$", "$").replace("%%", "%")
    return re.sub(r"\\(.)", r"\1", text)


def _php(name: str, found: Inventory) -> dict[str, Json]:
    for pool in found.pools:
        if pool.file == f"/etc/panel/fpm/{name}.conf":
            given: dict[str, Json | None] = {
                "memoryLimit": sizes.size(pool.limits.get("memory_limit", "")),
                "uploadMaxFilesize": sizes.size(pool.limits.get("upload_max_filesize", "")),
                "maxExecutionTime": sizes.number(pool.limits.get("max_execution_time", ""), 1, 3600),
                "maxChildren": sizes.number(pool.children, 1, 500),
            }
            return beyond(PhpSettings, given)
    return {}


def _limits(values: dict[str, str], quota: str) -> dict[str, Json]:
    given: dict[str, Json | None] = {
        "memory": sizes.size(values.get("MemoryMax", "")),
        "cpu": values.get("CPUQuota"),
        "tasks": sizes.number(values.get("TasksMax", ""), 16, 100000),
        "disk": sizes.size(quota),
    }
    return beyond(Limits, given)


def _cron(name: str, units: Mapping[str, dict[str, str]]) -> Iterator[Json]:
    head = f"panel-cron-{name}_"
    for unit, values in units.items():
        if unit.startswith(head) and unit.endswith(".timer"):
            job = unit[len(head) : -len(".timer")]
            service = units.get(f"{head}{job}.service", {})
            spec: dict[str, Json] = {
                "name": job,
                "schedule": values.get("schedule", ""),
                "command": shell(service.get("ExecStart", "")),
            }
            timeout = sizes.number(service.get("TimeoutStartSec", ""), 1, 86400)
            if timeout not in (None, _USUAL_TIMEOUT):
                spec["timeout"] = duration(timeout or 1)
            yield spec


def _workers(name: str, kept: KeptSection, units: Mapping[str, dict[str, str]]) -> Iterator[Json]:
    head = f"panel-worker-{name}_"
    for unit, values in units.items():
        if unit.startswith(head) and unit.endswith("@.service"):
            worker = unit[len(head) : -len("@.service")]
            copies = sum(step.key.startswith(f"unit:{head}{worker}@") for step in kept.steps)
            spec: dict[str, Json] = {"name": worker, "command": shell(values.get("ExecStart", ""))}
            if copies > 1:
                spec["replicas"] = copies
            yield spec


def document_root(user: str, kept: KeptSection) -> str:
    """The folder below public_html, or below a release, that is served; empty for all of it."""
    step = release(kept)
    if step is not None:
        return str(step.values.get("root", ""))
    head = f"file:/home/{user}/public_html/"
    found: Sequence[str] = [step.key[len(head) :] for step in kept.steps if step.key.startswith(head)]
    return found[0].rpartition("/")[0] if found else ""
