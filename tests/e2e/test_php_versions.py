"""Another version of PHP, other settings of it: visitors notice nothing, also when it cannot be done."""

from __future__ import annotations

import pytest

from lab import Node

from .harness import Stage, fetch, upload, wait_for
from .load import VISITORS, visitors

PAGE = "<?php usleep(1000 * (int) ($_GET['ms'] ?? 5)); echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, ' ', ini_get('memory_limit');"
BINARY = "/opt/remi/php84/root/usr/sbin/php-fpm"
PROGRAM = "/opt/remi/php84/root/usr/libexec/php-fpm"
SCRIPTS = "/opt/remi/php8?/root/usr/sbin/php-fpm"
"""What stands for a program of Remi's in the lab: a script that runs one, which must go by the script's name, since that
is what php-fpm runs at a reload."""


def moved(stage: Stage, site: str, **spec: object) -> None:
    stage.fleet.change("Site", site, **spec)
    stage.fleet.commit()
    stage.apply()


def master(node: Node, site: str) -> list[str]:
    """The process of a site's php-fpm, and the program that it runs."""
    pid = node.output(f"systemctl show -p MainPID --value panel-fpm-{site}")
    return [pid, node.output(f"readlink /proc/{pid}/exe")]


@pytest.fixture(scope="module")
def busy(stage: Stage) -> str:
    stage.site("busy", "el")
    stage.fleet.commit()
    stage.apply()
    stage.nodes["el"].run(f"sed -i -e '1s|.*|#!/bin/bash|' -e 's|exec /|exec -a $0 /|' {SCRIPTS}")
    stage.nodes["el"].run("systemctl restart panel-fpm-busy")
    upload(stage.nodes["el"], stage.user("busy"), PAGE)
    return "busy.test"


def test_another_version_loses_no_request_there_and_back(stage: Stage, busy: str) -> None:
    node = stage.nodes["el"]
    pid, program = master(node, "busy")
    assert program == PROGRAM.replace("84", "82")
    # some requests last longer than a reload
    with visitors(node, busy, "/", "/?ms=1500") as visits:
        wait_for(lambda: visits.answers["8.2 128M"] > 2 * VISITORS)
        moved(stage, "busy", phpVersion="8.4")
        assert master(node, "busy") == [pid, PROGRAM]
        wait_for(lambda: visits.answers["8.4 128M"] > 2 * VISITORS)
        moved(stage, "busy", phpVersion="8.2")
        before = visits.answers["8.2 128M"]
        wait_for(lambda: visits.answers["8.2 128M"] > before + 2 * VISITORS)
    assert visits.failures == []
    assert set(visits.answers) == {"8.2 128M", "8.4 128M"}
    assert master(node, "busy") == [pid, program]
    stage.in_sync()


@pytest.mark.parametrize("server", ["el", "deb"])
def test_other_settings_of_php_lose_no_request(stage: Stage, server: str) -> None:
    site, node = f"set-{server}", stage.nodes[server]
    stage.site(site, server)
    stage.fleet.commit()
    stage.apply()
    upload(node, stage.user(site), PAGE)
    pid = master(node, site)[0]
    with visitors(node, f"{site}.test", "/", "/?ms=1500") as visits:
        wait_for(lambda: visits.answers["8.2 128M"] > VISITORS)
        moved(stage, site, php={"memoryLimit": "64M"})
        wait_for(lambda: visits.answers["8.2 64M"] > 2 * VISITORS)
    assert visits.failures == []
    assert master(node, site)[0] == pid


def test_a_version_that_does_not_accept_its_configuration_leaves_the_site_with_the_old_one(
    stage: Stage, busy: str
) -> None:
    node = stage.nodes["el"]
    pid, program = master(node, "busy")
    node.run(
        f"mv {BINARY} {BINARY}.kept && printf '#!/bin/sh\\necho no such library >&2; exit 70\\n' > {BINARY}"
    )
    node.run(f"chmod 755 {BINARY}")
    try:
        with visitors(node, busy) as visits:
            wait_for(lambda: visits.count > VISITORS)
            stage.fleet.change("Site", "busy", phpVersion="8.4")
            stage.fleet.commit()
            done = stage.apply(code=1)
            assert "no such library" in done.out
            seen = visits.count
            wait_for(lambda: visits.count > seen + VISITORS)
        assert visits.failures == []
        assert set(visits.answers) == {"8.2 128M"}
        assert master(node, "busy") == [pid, program]
    finally:
        node.run(f"mv -f {BINARY}.kept {BINARY}")
    stage.apply()
    assert fetch(node, busy) == (200, "8.4 128M")
    moved(stage, "busy", phpVersion="8.2")


def test_a_version_that_dies_when_it_is_run_is_taken_back(stage: Stage, busy: str) -> None:
    """It passes its own test of the configuration, so that nothing tells before it has the socket."""
    node = stage.nodes["el"]
    script = f'#!/bin/sh\\ncase " $* " in *" -t "*) exec {BINARY}.kept "$@";; esac; exit 1\\n'
    node.run(f"mv {BINARY} {BINARY}.kept && printf '{script}' > {BINARY} && chmod 755 {BINARY}")
    try:
        stage.fleet.change("Site", "busy", phpVersion="8.4")
        stage.fleet.commit()
        done = stage.apply(code=1)
        assert "reload panel-fpm-busy.service" in done.out
        wait_for(lambda: fetch(node, busy) == (200, "8.2 128M"))
    finally:
        node.run(f"mv -f {BINARY}.kept {BINARY}")
    stage.apply()
    assert fetch(node, busy) == (200, "8.4 128M")
    stage.in_sync()
