"""PHP of one site: a php-fpm master of its own, run by a unit of its own as the site's user."""

from __future__ import annotations

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places, body_limit, request_seconds
from reconciler.blueprint.selinux import Level
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.kit.canonical import Json


def configuration(
    site: Site, places: Places, templates: Templates, level: Level | None = None
) -> tuple[Step, ...]:
    """The files: php-fpm's configuration, which php-fpm it is, and the unit. ValueError for a site without a PHP version.

    Another version is another link: at a reload php-fpm ends its children as they come to the end of their requests, and
    runs its program anew with the socket still open (sapi/fpm/fpm/fpm_process_ctl.c). No request is lost by that, and
    what came meanwhile waits in the socket.
    """
    spec, platform = site.spec, places.platform
    if spec.php_version is None:
        raise ValueError(f"{site.address} has no PHP version")
    binary = platform.php.binary_of(spec.php_version)
    values = {
        "places": places,
        "php": spec.php,
        "web_user": places.web.user,
        "mariadb_socket": platform.mariadb.socket,
        "body_limit": body_limit(spec.php.upload_max_filesize),
        "request_seconds": request_seconds(spec.php.max_execution_time),
        "context": level.php if level is not None else "",
    }
    validator: dict[str, Json] = {
        "type": "php_fpm",
        "binary": binary,
        "config": places.fpm_config,
        "user": places.user,
    }
    return (
        steps.file(
            places.fpm_config,
            Body.of(templates.render("php-fpm/site.conf.j2", values)),
            validate=validator,
        ),
        steps.symlink(places.fpm_program, binary, validate=validator),
        steps.file(places.unit_file, Body.of(templates.render("systemd/panel-fpm.service.j2", values))),
    )


def unit(site: Site, places: Places) -> Step:
    """The running unit. A changed configuration or version is reloaded without losing a request; a changed unit restarts."""
    return steps.unit(
        places.unit,
        running=site.spec.state == "active",
        reload_on=(
            f"file:{places.fpm_config}",
            *((f"release:{site.name}",) if places.deployed else ()),
            f"symlink:{places.fpm_program}",
        ),
        restart_on=(f"file:{places.unit_file}",),
    )
