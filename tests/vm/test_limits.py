"""Limits of sites as a kernel enforces them that has all controllers of cgroups, which the nodes of the lab have not."""

from __future__ import annotations

import pytest

from lab.vm import Machine
from reconciler import blueprint
from reconciler.blueprint.places import Places
from reconciler.platforms import for_os
from tests.blueprint import by_hand
from tests.blueprint.fleets import fleet_of, only_server, system_users

# The one name is the beginning of the other: systemd would take `my-shop` for a part of `my`.
FLEET = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: debian_12, sshKey: admin, software: {php: ["8.2"]}, selinux: {mode: disabled}}
---
kind: Site
metadata: {name: my}
spec:
  server: web1
  domain: my.test
  phpVersion: "8.2"
  php: {memoryLimit: 900M}
  limits: {memory: 96M, cpu: 50%, tasks: 40}
  workers: [{name: sleeper, command: exec sleep infinity}]
---
kind: Site
metadata: {name: my-shop}
spec: {server: web1, domain: my-shop.test, phpVersion: "8.2", php: {memoryLimit: 900M}}
"""
EAT = "<?php $all = str_repeat('x', 300 << 20); echo strlen($all) >> 20;"
SITES = ("my", "my-shop")
SLICES = "/sys/fs/cgroup/panel.slice/panel-site.slice"


@pytest.fixture(scope="module")
def limited(running: Machine) -> Machine:
    """The machine with two sites, of which only `my` has limits."""
    machine = running
    machine.reset()
    machine.run("setenforce 0")  # what the kernel does here has nothing to do with labels
    fleet = fleet_of(FLEET)
    for section in blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked):
        script = [line for step in section.steps for line in by_hand.lines(step)]
        machine.run("set -e\n" + "\n".join(script), timeout=300)
    for user in ("web1", "web2"):
        for name, text in (("eat.php", EAT), ("ok.php", "<?php echo 'ok';")):
            machine.run(f"cat > /home/{user}/public_html/{name}", stdin=text)
    machine.run("nginx -t 2>&1 && systemctl reload nginx", timeout=60)
    return machine


def _get(machine: Machine, site: str, page: str) -> str:
    """Status and body."""
    script = f"curl -s --max-time 100 -w '%{{http_code}} ' -o /tmp/page -H 'Host: {site}.test' http://127.0.0.1/{page}; cat /tmp/page"
    return machine.output(script)


def _masters(machine: Machine) -> list[str]:
    """The processes that are the sites' PHP, by site; they change when a unit is started anew."""
    return [machine.output(f"systemctl show -P MainPID panel-fpm-{site}") for site in SITES]


def test_a_script_that_eats_memory_is_ended_and_all_else_goes_on(limited: Machine) -> None:
    before = _masters(limited)
    assert _get(limited, "my", "ok.php") == _get(limited, "my-shop", "ok.php") == "200 ok"
    eaten = _get(limited, "my", "eat.php")
    assert eaten.startswith("502 ")
    ended = limited.output(f"grep -o 'oom_kill [0-9]*' {SLICES}/panel-site-my.slice/memory.events")
    assert ended == "oom_kill 1"
    assert _masters(limited) == before
    assert _get(limited, "my", "ok.php") == _get(limited, "my-shop", "ok.php") == "200 ok"
    assert (
        limited.output("systemctl is-active panel-worker-my_sleeper@1 panel-fpm-my").split() == ["active"] * 2
    )
    # the site without a limit may, although the other's name begins its own
    assert _get(limited, "my-shop", "eat.php") == "200 300"


def test_a_site_is_one_slice_and_its_limits_change_without_a_restart(limited: Machine) -> None:
    before = _masters(limited)
    controls = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")

    def limits(name: str) -> list[str]:
        # the files of a controller are there while a slice needs it
        folder = f"{SLICES}/{name}"
        return [limited.output(f"cat {folder}/{control} 2>/dev/null || echo none") for control in controls]

    assert limits("panel-site-my.slice") == [str(96 << 20), "0", "50000 100000", "40"]
    free = limits("panel-site-my_shop.slice")
    assert free[:3] == ["max", "max", "max 100000"]
    assert free[3] != "40"
    for unit, name in (
        ("panel-fpm-my.service", "panel-site-my.slice"),
        ("panel-worker-my_sleeper@1.service", "panel-site-my.slice"),
        ("panel-fpm-my-shop.service", "panel-site-my_shop.slice"),
    ):
        group = limited.output(f"systemctl show -P ControlGroup {unit}")
        assert group.startswith(f"/panel.slice/panel-site.slice/{name}/")

    fleet = fleet_of(FLEET.replace("memory: 96M, cpu: 50%, tasks: 40", "memory: 512M"))
    (section,) = (
        found
        for found in blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)
        if found.id == "Site/my"
    )
    platform = for_os("debian_12")
    path = Places("my", "web1", "my.test", platform, platform.nginx, "/home/web1/public_html").slice_file
    script = [line for step in section.steps if step.target == path for line in by_hand.lines(step)]
    limited.run("\n".join([*script, "systemctl daemon-reload"]), timeout=60)
    changed = limits("panel-site-my.slice")
    assert changed[:2] == [str(512 << 20), "0"]
    assert changed[2] in ("max 100000", "none")
    assert changed[3] != "40"
    assert _get(limited, "my", "eat.php") == "200 300"
    assert _masters(limited) == before
