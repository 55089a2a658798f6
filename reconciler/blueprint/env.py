"""The `.env` file of a site: where it is reached, and how it logs in to its databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from reconciler.blueprint.model import Body
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Database, Site
from reconciler.desired.kinds.secrets import clear
from reconciler.kit.secret import Secret
from reconciler.platforms import Platform


def body(
    site: Site,
    databases: Iterable[tuple[Database, Secret]],
    platform: Platform,
    templates: Templates,
    more: Mapping[str, str],
) -> Body:
    """The file, marked secret. What the daemon sets, `more` among it, comes first and wins over `spec.env`."""
    values: dict[str, str] = {"APP_URL": site.spec.url}
    if site.spec.app_type == "laravel" and "APP_ENV" not in site.spec.env:
        values["APP_ENV"] = "production"
    for database, password in databases:
        values |= _login(database, password, platform)
    values |= more
    for name in sorted(site.spec.env):
        values.setdefault(name, clear(site.spec.env[name]).reveal())
    text = templates.render("env/site.env.j2", {"values": values})
    return Body.of(Secret(text))


def _login(database: Database, password: Secret, platform: Platform) -> dict[str, str]:
    spec = database.spec
    match spec.engine:
        case "mariadb":
            # `localhost` means the socket to every MySQL client; over it no SELinux boolean is needed
            place = {
                "CONNECTION": "mysql",
                "HOST": "localhost",
                "PORT": "3306",
                "SOCKET": platform.mariadb.socket,
            }
        case "postgresql":
            place = {"CONNECTION": "pgsql", "HOST": "127.0.0.1", "PORT": "5432"}
        case _:
            assert_never(spec.engine)
    login = {"DATABASE": spec.name, "USERNAME": spec.username, "PASSWORD": password.reveal()}
    return {f"{spec.env_prefix}_{name}": value for name, value in (place | login).items()}
