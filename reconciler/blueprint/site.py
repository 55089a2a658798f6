"""A Site's section: system user, folders, `.env`, PHP, jobs and the virtual host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.blueprint import env, jobs, limits, php, redis, releases, selinux, steps, tls, web
from reconciler.blueprint.model import Body, Section, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Database, Server, Site
from reconciler.kit.secret import Secret
from reconciler.platforms import Platform


def section(
    site: Site,
    server: Server,
    user: str,
    databases: Sequence[tuple[Database, Secret]],
    platform: Platform,
    templates: Templates,
    level: selinux.Level | None = None,
) -> Section:
    """The section of `site`, which is on `server`; needs its server's and its databases', whose logins its `.env` holds.

    `user` is the system user allocated to the site, `level` its SELinux level where its server has levels. Raises ValueError when it is not a plain account name.
    """
    places = Places.of(site, user, platform, platform.web(server.spec.web_server))
    needs = (f"Server/{site.spec.server}", *(database.address for database, _ in databases))
    return Section(site.address, tuple(_steps(site, server, places, databases, templates, level)), needs)


def _steps(
    site: Site,
    server: Server,
    places: Places,
    databases: Sequence[tuple[Database, Secret]],
    templates: Templates,
    level: selinux.Level | None,
) -> Iterator[Step]:
    yield steps.user(
        places.user,
        home=places.home,
        # The web server's group may walk through, the other sites' users may not.
        home_mode="0710",
        home_group=places.web.group,
        shell=places.platform.nologin,
        comment=f"site {site.name}",
    )
    # before anything else is made: a limit that cannot hold stops the site
    yield from limits.quota(site, places)
    if level is not None:
        yield selinux.site(site, places, level)
    yield from _folders(site, places)
    yield steps.file(
        places.env,
        env.body(site, databases, places.platform, templates, redis.login(site, places)),
        owner=places.user,
        group=places.user,
        mode="0600",
    )
    if site.spec.app_type == "laravel":
        # Laravel looks for .env in the application's folder; links of the site's own user are followed by PHP only
        yield steps.symlink(f"{places.public}/.env", "../.env")
    if site.spec.app_type != "proxy" and not places.deployed:
        yield web.welcome(places, templates)
    yield from limits.configuration(site, places, templates)
    if site.spec.runs_php:
        yield from php.configuration(site, places, templates, level)
    yield from redis.configuration(site, places, templates, level)
    yield steps.file(places.logrotate, Body.of(templates.render("logrotate/site.j2", {"places": places})))
    if site.spec.source is not None:
        yield from releases.configuration(site, site.spec.source, places, templates, level)
        # before everything that serves it: when it cannot be made, nothing else of the site has changed
        yield releases.release(site, site.spec.source, places)
    if site.spec.runs_php:
        yield php.unit(site, places)
    yield from redis.units(site, places)
    yield from jobs.configuration(site, places, templates, level)
    yield from jobs.units(site, places)
    yield from tls.certificate(site, server, places)
    yield from web.virtual_host(site, places, templates)


def _folders(site: Site, places: Places) -> Iterator[Step]:
    public = (places.public, *places.served_folders, f"{places.home}/storage")
    private = [places.temporary, places.logs]
    if site.spec.runs_php:
        private.insert(1, places.sessions)
    for path in public:
        yield steps.directory(path, owner=places.user, group=places.user, mode="0755")
    if places.deployed:
        yield from releases.folders(places)
    for path in private:
        yield steps.directory(path, owner=places.user, group=places.user, mode="0700")
