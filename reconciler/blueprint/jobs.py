"""What runs for a site beside its PHP: a timer and its service for each cron job, a unit for each copy of a worker.

They run as the site's user, in the site's folder of the application and, where the server has SELinux, in the domain of
jobs at the site's level. crond would start them without either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.selinux import Level
from reconciler.blueprint.templates import Templates
from reconciler.desired.cron import Schedule
from reconciler.desired.kinds import Site
from reconciler.desired.kinds.jobs import CronJob
from reconciler.desired.scalars import seconds


def configuration(
    site: Site, places: Places, templates: Templates, level: Level | None = None
) -> Iterator[Step]:
    """The unit files of the cron jobs and the workers."""
    common = values_of(site, places, places.application, level)
    for job in site.spec.cron:
        values = {**common, "unit": places.cron(job.name)}
        yield _unit_file(
            f"{places.cron(job.name)}.service", "panel-cron.service", templates, _of_job(job) | values
        )
        yield _unit_file(
            f"{places.cron(job.name)}.timer", "panel-cron.timer", templates, _of_job(job) | values
        )
    for worker in site.spec.workers:
        values = {**common, "unit": places.worker(worker.name), "worker": worker}
        yield _unit_file(f"{places.worker(worker.name)}@.service", "panel-worker.service", templates, values)


def values_of(site: Site, places: Places, folder: str, level: Level | None) -> dict[str, object]:
    """What every unit that runs a site's commands is rendered with; they begin in `folder`."""
    return {
        "places": places,
        "folder": folder,
        "of_release": False,
        "path": _path(site, places),
        "context": level.job if level is not None else "",
    }


def units(site: Site, places: Places) -> Iterator[Step]:
    """The timers and workers, running or stopped, and the jobs, which a stopped site may not run.

    A changed timer needs no restart: systemd reckons anew when it has read it. A worker has read its `.env` once.
    """
    active = site.spec.state == "active"
    for job in site.spec.cron:
        # in this order: what is removed goes the other way round, the timer first
        yield steps.job(f"{places.cron(job.name)}.service", allowed=active)
        yield steps.unit(f"{places.cron(job.name)}.timer", running=active)
    for worker in site.spec.workers:
        name = places.worker(worker.name)
        read = [f"file:{places.unit_folder}/{name}@.service", f"file:{places.env}"]
        if places.deployed:
            read.append(f"release:{site.name}")
        for number in range(1, worker.replicas + 1):
            yield steps.unit(f"{name}@{number}.service", running=active, restart_on=read)


def _of_job(job: CronJob) -> dict[str, object]:
    schedule = Schedule.of(job.schedule)
    return {
        "job": job,
        "calendar": schedule.calendar,
        # what comes again within the day is not made up for
        "persistent": schedule.at_most_daily,
        "timeout": int(seconds(job.timeout)),
    }


def _unit_file(name: str, template: str, templates: Templates, values: Mapping[str, object]) -> Step:
    text = templates.render(f"systemd/{template}.j2", values)
    return steps.file(f"{Places.unit_folder}/{name}", Body.of(text))


def _path(site: Site, places: Places) -> str:
    """PATH, with the folder first whose `php` is of the site's version, if it has one: it is beside that of php-fpm."""
    folders = ["/usr/local/bin", "/usr/bin", "/bin"]
    if site.spec.php_version is not None:
        binary = places.platform.php.binary_of(site.spec.php_version)
        folders.insert(0, str(PurePosixPath(binary).parent.with_name("bin")))
    return ":".join(dict.fromkeys(folders))
