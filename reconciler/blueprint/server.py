"""A Server's section: repositories, packages, the web server's and the databases' base configuration, their units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.blueprint import database, host, selinux, software, steps, tls, web
from reconciler.blueprint.model import Body, Section, Step
from reconciler.blueprint.templates import Templates
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Database, Server, Site
from reconciler.platforms import Platform, Repository

PANEL = "/etc/panel"
FPM = "/etc/panel/fpm"
REDIS = "/etc/panel/redis"
LOGS = "/var/log/panel"


def section(
    server: Server,
    fleet: Fleet,
    platform: Platform,
    templates: Templates,
    databases: Sequence[Database] = (),
) -> Section:
    """The section of `server`, on which every other section of the node depends.

    Of its `databases` it has what concerns their engine as a whole: whether that listens to the network, and to whom.
    `fleet` has the people who log in there, and the sites whose applications the web server must reach. Raises ValueError when one is missing.
    """
    made = _steps(server, platform, templates, databases, tuple(fleet.sites(server.name)))
    return Section(server.address, (*made, *host.base(server, fleet, platform, templates)))


def _steps(
    server: Server,
    platform: Platform,
    templates: Templates,
    databases: Sequence[Database],
    sites: Sequence[Site],
) -> Iterator[Step]:
    spec = server.spec
    for repository in _repositories(server, platform):
        yield steps.repository(repository.package, repository.url)
    yield from software.streams(server, platform)
    for name, piece in software.packages(server, platform).items():
        yield steps.package(name, piece)
    if spec.hostname is not None:
        yield steps.hostname(spec.hostname)
    yield steps.directory(PANEL)
    protected = selinux.in_use(server, platform)
    if protected:
        yield from selinux.policy(server, sites)
    yield steps.directory(FPM)
    yield steps.directory(LOGS, mode="0750")
    yield from tls.server(server, platform, templates)
    yield from web.base(server, platform, templates, protected=protected)
    if platform.php.started_by_package:
        # one master for all sites is what we replace by one a site
        for version in sorted(spec.software.php):
            yield steps.unit(platform.php.unit_of(version), running=False)
    if spec.software.redis:
        yield steps.directory(REDIS)
        # one for all sites, which each could read, is what we replace by one a site
        yield steps.unit(platform.redis.unit, running=False)
    if "mariadb" in spec.database_engines:
        yield from _mariadb(platform, templates, databases)
    if "postgresql" in spec.database_engines:
        yield from _postgresql(platform, templates, databases)


def _repositories(server: Server, platform: Platform) -> list[Repository]:
    spec = server.spec
    wanted = [
        *(platform.php_repositories if spec.software.php else ()),
        *web.repositories(server, platform),
        *(platform.certbot.repositories if spec.acme is not None else ()),
        *host.repositories(server, platform),
    ]
    return list(dict.fromkeys(wanted))


def _mariadb(platform: Platform, templates: Templates, databases: Sequence[Database]) -> Iterator[Step]:
    mariadb = platform.mariadb
    init = f"{PANEL}/mariadb-init.sql" if mariadb.open_root else ""
    watched = [f"file:{mariadb.config}"]
    if init:
        yield steps.file(init, Body.of(templates.render("mariadb/init.sql.j2", {})))
        watched.append(f"file:{init}")
    values = {"init": init, "address": database.mariadb_address(databases)}
    yield steps.file(mariadb.config, Body.of(templates.render("mariadb/panel.cnf.j2", values)))
    yield steps.unit(mariadb.unit, restart_on=watched)


def _postgresql(platform: Platform, templates: Templates, databases: Sequence[Database]) -> Iterator[Step]:
    postgresql = platform.postgresql
    remote = [one for one in databases if one.spec.engine == "postgresql" and one.spec.remote_access]
    values = {"databases": remote, "type": "hostssl" if postgresql.tls else "host"}
    yield Step("postgresql_cluster", "main", {"data": postgresql.data, "setup": postgresql.setup})
    yield steps.file(
        postgresql.hba,
        Body.of(templates.render("postgresql/pg_hba.conf.j2", values)),
        owner="postgres",
        group="postgres",
        mode=postgresql.hba_mode,
    )
    listen = "postgresql_setting:listen_addresses"
    yield steps.unit(postgresql.unit, reload_on=(f"file:{postgresql.hba}",), restart_on=(listen,))
    if remote:
        yield Step("postgresql_setting", "listen_addresses", {"name": "listen_addresses", "value": "*"})
