"""Cron jobs and workers of sites, on real nodes of both families: whose they are, when they run, when they stop."""

from __future__ import annotations

import pytest

from lab import Node

from .harness import Stage, wait_for

SEEN = (
    r"""echo heard; printf '%s|%s|%s|%s' "$(id -un)" "$PWD" "$HOME" '100% of $HOME \ "q"' > ~/storage/seen"""
)
BEAT = 'while :; do echo "$$ $(id -un)" >> ~/storage/beats; sleep 1; done'
FAMILIES = pytest.mark.parametrize("server", ["el", "deb"])


def shows(node: Node, unit: str, *properties: str) -> list[str]:
    """Properties of a unit, in this order."""
    return [node.output(f"systemctl show -P {name} '{unit}'") for name in properties]


def running(node: Node, user: str) -> list[str]:
    """The command lines of a user's processes."""
    return node.run(f"pgrep -a -u {user}", check=False).stdout.splitlines()


def place(stage: Stage, name: str, server: str, **spec: object) -> tuple[Node, str]:
    """A site with its jobs in place: its node and its user."""
    stage.site(name, server, **spec)
    stage.fleet.commit()
    stage.apply()
    return stage.nodes[server], stage.user(name)


@FAMILIES
def test_a_cron_job_runs_as_the_sites_user_and_by_the_clock(stage: Stage, server: str) -> None:
    name = f"clock-{server}"
    jobs = [
        {"name": "seen", "schedule": "0 4 * * *", "command": SEEN},
        {"name": "look", "schedule": "@daily", "command": "env > ~/storage/env; php -v > ~/storage/php"},
        {"name": "tick", "schedule": "* * * * *", "command": "date >> ~/storage/ticks"},
        {"name": "out", "schedule": "@daily", "command": "echo x > /etc/panel/x || echo x > /usr/x"},
        {"name": "late", "schedule": "@daily", "command": "sleep 600", "timeout": "2s"},
    ]
    node, user = place(stage, name, server, cron=jobs, env={"SECRET_WORD": "hidden-word"})
    home, unit = f"/home/{user}", f"panel-cron-{name}"
    assert shows(node, f"{unit}_tick.timer", "ActiveState", "UnitFileState") == ["active", "enabled"]
    assert shows(node, f"{unit}_seen.service", "ActiveState") == ["inactive"]

    node.run(f"systemctl start {unit}_seen.service {unit}_look.service", timeout=30)
    assert node.read(f"{home}/storage/seen") == rf'{user}|{home}/public_html|{home}|100% of $HOME \ "q"'
    assert "heard" in node.output(f"journalctl -t {unit}_seen -o cat --no-pager")
    assert node.read(f"{home}/storage/php").startswith("PHP 8.2.")
    environment = dict(line.partition("=")[::2] for line in node.read(f"{home}/storage/env").splitlines())
    assert (environment["TMPDIR"], environment["USER"]) == (f"{home}/tmp", user)
    assert "hidden-word" not in str(environment)
    assert "hidden-word" in node.read(f"{home}/.env")

    assert node.run(f"systemctl start {unit}_out.service", check=False, timeout=30).returncode != 0
    assert node.run("ls /etc/panel/x /usr/x", check=False).stdout == ""
    assert node.run(f"systemctl start {unit}_late.service", check=False, timeout=60).returncode != 0
    assert shows(node, f"{unit}_late.service", "Result") == ["timeout"]
    # a job that failed is no fault of the node
    stage.in_sync()

    wait_for(lambda: node.run(f"cat {home}/storage/ticks", check=False).stdout, 90, 1)
    assert shows(node, f"{unit}_tick.service", "Result") == ["success"]


@FAMILIES
def test_a_worker_is_up_and_comes_back_when_it_dies(stage: Stage, server: str) -> None:
    name = f"work-{server}"
    node, user = place(stage, name, server, workers=[{"name": "queue", "command": BEAT, "replicas": 2}])
    first, second = (f"panel-worker-{name}_queue@{number}.service" for number in (1, 2))
    for unit in (first, second):
        assert shows(node, unit, "ActiveState", "UnitFileState", "User") == ["active", "enabled", user]
    before = shows(node, first, "MainPID")
    wait_for(lambda: f"{before[0]} {user}" in node.run(f"cat /home/{user}/storage/beats", check=False).stdout)
    node.run(f"kill -9 {before[0]}")
    wait_for(lambda: shows(node, first, "ActiveState", "SubState") == ["active", "running"], 30, 0.2)
    after = shows(node, first, "MainPID")
    assert after != before
    assert shows(node, first, "NRestarts") == ["1"]
    wait_for(lambda: f"{after[0]} {user}" in node.read(f"/home/{user}/storage/beats"))
    stage.in_sync()

    # another .env, another command: restarted; one copy less: stopped
    stage.fleet.change("Site", name, env={"WORD": "new"})
    stage.fleet.commit()
    stage.apply()
    renewed = shows(node, second, "MainPID")
    assert shows(node, first, "MainPID") != after
    workers = [{"name": "queue", "command": "exec sleep 3600"}]
    stage.fleet.change("Site", name, workers=workers)
    stage.fleet.commit()
    stage.apply()
    assert shows(node, second, "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    assert renewed != ["0"]
    assert [line.partition(" ")[2] for line in running(node, user) if "php-fpm" not in line] == ["sleep 3600"]
    stage.in_sync()


@FAMILIES
def test_a_worker_whose_program_fails_holds_nothing_up(stage: Stage, server: str) -> None:
    name = f"fail-{server}"
    node, _ = place(stage, name, server, workers=[{"name": "queue", "command": "php artisan queue:work"}])
    unit = f"panel-worker-{name}_queue@1.service"
    wait_for(lambda: shows(node, unit, "SubState") == ["auto-restart"])
    assert stage.status()[f"Site/{name}"]["state"] == "active"
    stage.in_sync()
    stage.fleet.drop("Site", name)
    stage.fleet.commit()
    stage.apply()
    assert shows(node, unit, "LoadState", "ActiveState") == ["not-found", "inactive"]


@FAMILIES
def test_jobs_stop_with_a_suspended_site_and_go_with_their_entries(stage: Stage, server: str) -> None:
    name = f"stop-{server}"
    cron = [
        {"name": "long", "schedule": "@daily", "command": "sleep 600"},
        {"name": "bad", "schedule": "@daily", "command": "exit 3"},
    ]
    workers = [{"name": "queue", "command": BEAT}]
    node, user = place(stage, name, server, cron=cron, workers=workers)
    timer, job = (f"panel-cron-{name}_long.{suffix}" for suffix in ("timer", "service"))
    bad = f"panel-cron-{name}_bad.service"
    worker = f"panel-worker-{name}_queue@1.service"
    node.run(f"systemctl start --no-block {job}")
    wait_for(lambda: any("sleep 600" in line for line in running(node, user)))

    stage.fleet.change("Site", name, state="suspended")
    stage.fleet.commit()
    stage.apply()
    assert running(node, user) == []
    for unit in (timer, worker):
        assert shows(node, unit, "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    stage.in_sync()

    stage.fleet.change("Site", name, state="active")
    stage.fleet.commit()
    stage.apply()
    assert shows(node, timer, "ActiveState") == shows(node, worker, "ActiveState") == ["active"]
    # another schedule needs no restart
    stage.fleet.change("Site", name, cron=[{**cron[0], "schedule": "17 3 1 1 *"}, cron[1]])
    stage.fleet.commit()
    stage.apply()
    assert "01-01 03:17" in shows(node, timer, "NextElapseUSecRealtime")[0]

    node.run(f"systemctl start --no-block {job}")
    wait_for(lambda: any("sleep 600" in line for line in running(node, user)))
    assert node.run(f"systemctl start {bad}", check=False).returncode != 0
    assert shows(node, bad, "ActiveState", "ExecMainStatus") == ["failed", "3"]
    stage.fleet.change("Site", name, cron=None, workers=None)
    stage.fleet.commit()
    stage.apply()
    assert all("php-fpm" in line for line in running(node, user))
    for unit in (timer, job, bad, worker):
        assert shows(node, unit, "LoadState", "ActiveState") == ["not-found", "inactive"]
    left = f"ls -d /etc/systemd/system/*{name}_* /etc/systemd/system/*.wants/*{name}_*"
    assert node.run(left, check=False).stdout == ""
    stage.in_sync()
