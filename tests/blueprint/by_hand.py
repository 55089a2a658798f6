"""Puts a bundle in place on a lab node with plain shell commands, so that the rendered files are tried without the agent."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Iterator

from lab import Node
from reconciler.blueprint.model import Bundle, Step

_Script = Iterator[str]


def apply(node: Node, bundle: Bundle) -> None:
    """Applies every step once, in order; reloads the web server at the end after its own test of the configuration."""
    for section in bundle.sections:
        script = [line for step in section.steps for line in lines(step)]
        node.run("set -e\n" + "\n".join(script), timeout=120)
    if any(step.key == "unit:caddy.service" for section in bundle.sections for step in section.steps):
        check = "caddy validate --config /etc/caddy/Caddyfile"
        node.run(f"runuser -u caddy -- {check} 2>&1 && systemctl reload-or-restart caddy")
    else:
        node.run("nginx -t 2>&1 && systemctl reload nginx")


def lines(step: Step) -> Iterator[str]:
    """The shell commands of one step."""
    return _MAKERS[step.type](step)


def _words(*values: object) -> str:
    return shlex.join(str(value) for value in values)


def _nothing(step: Step) -> _Script:
    return iter(())


def _user(step: Step) -> _Script:
    p = step.params
    yield (
        _words("useradd", "-U", "-m", "-d", p["home"], "-s", p["shell"], "-c", p["comment"], p["name"])
        + " || id "
        + _words(p["name"])
    )
    yield _words("chgrp", p["home_group"], p["home"])
    yield _words("chmod", p["home_mode"], p["home"])


def _directory(step: Step) -> _Script:
    p = step.params
    yield _words("install", "-d", "-o", p["owner"], "-g", p["group"], "-m", p["mode"], p["path"])


def _file(step: Step) -> _Script:
    p = step.params
    path = shlex.quote(str(p["path"]))
    if p.get("state") == "absent":
        yield f"rm -f {path}"
        return
    assert step.body is not None
    assert step.body.content is not None
    encoded = base64.b64encode(step.body.content).decode()
    guard = f"test -e {path} || " if p.get("once") else ""
    yield f"{guard}echo {encoded} | base64 -d | {_words('install', '-o', p['owner'], '-g', p['group'], '-m', p['mode'], '/dev/stdin', p['path'])}"
    check = p.get("validate")
    if isinstance(check, dict) and check["type"] == "php_fpm":
        yield (
            _words(
                "setpriv",
                f"--reuid={check['user']}",
                f"--regid={check['user']}",
                "--clear-groups",
                check["binary"],
                "-t",
                "--fpm-config",
                check["config"],
            )
            + " 2>&1"
        )


def _symlink(step: Step) -> _Script:
    p = step.params
    yield (
        _words("rm", "-f", p["path"])
        if p.get("state") == "absent"
        else _words("ln", "-sfn", p["target"], p["path"])
    )


def _unit(step: Step) -> _Script:
    name, verb = step.params["name"], "enable" if step.params.get("enabled") else "disable"
    yield "systemctl daemon-reload"
    yield _words("systemctl", verb, "--now", name)
    if step.params.get("active") and "fpm" not in str(name):
        # what is set to restart a unit, such as caddy's place of administration, was written just before
        yield _words("systemctl", "restart" if step.params.get("restart_on") else "reload-or-restart", name)


def _web_server(step: Step) -> _Script:
    yield _words("systemctl", "disable", "--now", step.params["instead_of"]) + " || true"
    yield _words("systemctl", "enable", step.params["unit"])
    yield _words("systemctl", "restart", step.params["unit"])


def _sql(step: Step) -> _Script:
    p, name = step.params, step.params.get("name")
    password = step.body.content.decode() if step.body and step.body.content else ""
    statements = {
        "mariadb_database": f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET {p.get('charset')} COLLATE {p.get('collation')}",
        "mariadb_user": f"CREATE OR REPLACE USER {name}@{p.get('host')} IDENTIFIED BY '{password}'",
        "mariadb_grant": f"GRANT ALL ON {p.get('database')}.* TO {p.get('user')}@{p.get('host')}",
        "postgresql_role": f"SET password_encryption='scram-sha-256'; CREATE ROLE {name} LOGIN PASSWORD '{password}'",
        "postgresql_database": f"CREATE DATABASE {name} OWNER {p.get('owner')}",
    }
    client = (
        "mariadb" if step.type.startswith("mariadb") else "runuser -u postgres -- psql -v ON_ERROR_STOP=1"
    )
    # one statement a call: PostgreSQL creates no database inside a transaction
    yield f"printf '%s;\\n' {shlex.quote(statements[step.type])} | (cd / && {client})"


_MAKERS: dict[str, Callable[[Step], _Script]] = {
    "package": _nothing,
    "repository": _nothing,
    "module": _nothing,
    "web_server": _web_server,
    "postgresql_cluster": _nothing,
    "user": _user,
    "directory": _directory,
    "file": _file,
    "symlink": _symlink,
    "unit": _unit,
    "mariadb_database": _sql,
    "mariadb_user": _sql,
    "mariadb_grant": _sql,
    "postgresql_role": _sql,
    "postgresql_database": _sql,
}
