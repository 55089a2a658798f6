"""Pools of php-fpm, the distribution's and those of sites that we manage: who runs them, where they listen, their limits."""

import re
from typing import Any, Dict, List

from .. import process
from . import bounded

Pool = Dict[str, Any]
MOST = 3000
PLACES = (
    ("/etc/php/*/fpm/pool.d/*.conf", r"/etc/php/([78]\.[0-9])/"),
    ("/etc/opt/remi/php*/php-fpm.d/*.conf", r"/etc/opt/remi/php([78][0-9])/"),
    ("/etc/php-fpm.d/*.conf", r""),
    ("/etc/panel/fpm/*.conf", r""),
)
_LIMITS = ("memory_limit", "upload_max_filesize", "post_max_size", "max_execution_time")
_SECTION = re.compile(r"\[([^\]]{1,200})\]\s*\Z")
_LINE = re.compile(r"([A-Za-z_.]{1,60})(?:\[([^\]]{1,100})\])?\s*=\s*(.*)\Z", re.S)


def find(notes: List[str]) -> List[Pool]:
    """Every pool with the fields of docs/protocol.md; values of `env[…]` and other settings are not among them."""
    found: List[Pool] = []
    for pattern, version in PLACES:
        for path in bounded.match(pattern, MOST):
            text = bounded.read(path)
            if text is None:
                notes.append("{}: cannot be read as a text of at most 1 MiB".format(bounded.text(path)))
                continue
            match = re.match(version, path) if version else None
            nn = match.group(1) if match else ""
            found += _pools(path, text, nn if "." in nn or not nn else nn[0] + "." + nn[1])
    default = ""
    for pool in found:
        if not pool["version"] and pool["file"].startswith("/etc/php-fpm.d/"):
            default = default or _version("php-fpm")
            pool["version"] = default
    return found[:MOST]


def _version(program: str) -> str:
    match = re.match(r"PHP ([78]\.[0-9])\.", process.run([program, "-v"], timeout=10).out)
    return match.group(1) if match else ""


def _pools(path: str, text: str, version: str) -> List[Pool]:
    found: List[Pool] = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        section = _SECTION.match(line)
        if section:
            name = section.group(1)
            if name != "global":
                found.append(_empty(path, name, version))
            continue
        match = _LINE.match(line)
        if match and found:
            _set(found[-1], match.group(1), match.group(2), _bare(match.group(3)))
    return found


def _empty(path: str, name: str, version: str) -> Pool:
    return {
        "file": bounded.text(path), "name": bounded.text(name), "version": version, "listen": "", "user": "",
        "children": "", "limits": {}, "variables": 0,
    }  # fmt: skip


def _bare(value: str) -> str:
    value = value.strip()
    if value[:1] in "\"'" and len(value) > 1:
        end = value.find(value[0], 1)
        return bounded.text(value[1:end] if end > 0 else value[1:])
    return bounded.text(value.partition(";")[0].strip())


def _set(pool: Pool, name: str, index: str, value: str) -> None:
    if name in ("listen", "user"):
        pool[name] = value.replace("$pool", pool["name"])
    elif name == "pm.max_children":
        pool["children"] = value
    elif name in ("php_admin_value", "php_value") and index in _LIMITS:
        pool["limits"][index] = value
    elif name == "env":
        pool["variables"] += 1
