"""Redis of a site: its programs reach it, no other site does, and it goes with its field."""

from __future__ import annotations

import pytest

from .harness import PHP, Stage, fetch, upload

PAGE = """<?php $env = parse_ini_file(__DIR__ . '/../.env'); $r = new Redis(); $r->connect($env['REDIS_HOST'], (int) $env['REDIS_PORT']);
$r->incr('visits'); echo $r->get('visits'), ' ', $r->config('GET', 'maxmemory')['maxmemory'];"""


@pytest.mark.parametrize("server", ["el", "deb"])
def test_a_site_has_a_redis_that_no_other_site_reaches(stage: Stage, server: str) -> None:
    node, site, other = stage.nodes[server], f"cached-{server}", f"nosy-{server}"
    php = PHP["el9" if server == "el" else "debian12"]
    stage.fleet.change("Server", server, software={"php": php, "redis": True})
    stage.site(site, server, redis={"memory": "8M"})
    stage.site(other, server, redis={})
    stage.fleet.commit()
    stage.apply()
    user, stranger = stage.user(site), stage.user(other)
    upload(node, user, PAGE)
    assert [fetch(node, f"{site}.test") for _ in range(2)] == [(200, "1 8388608"), (200, "2 8388608")]
    ask = f"redis-cli -s /run/panel-redis/{site}/redis.sock get visits"
    assert "2" in node.output(f"runuser -u {user} -- {ask}")
    denied = node.run(f"runuser -u {stranger} -- {ask}", check=False)
    assert "Permission denied" in denied.stdout + denied.stderr
    assert node.run(f"runuser -u {stranger} -- cat /home/{user}/.env", check=False).returncode != 0
    assert ":6379" not in node.output("ss -ltn")
    stage.in_sync()

    # queues and sessions outlive a restart
    node.run(f"systemctl restart panel-redis-{site}")
    assert fetch(node, f"{site}.test") == (200, "3 8388608")
    stage.fleet.change("Site", site, state="suspended")
    stage.fleet.change("Site", other, redis=None)
    stage.fleet.commit()
    stage.apply()
    units = node.output("systemctl list-units --all --plain --no-legend 'panel-redis-*'")
    assert "running" not in units
    assert node.run(f"ls /etc/panel/redis/{other}.conf", check=False).returncode != 0

    stage.fleet.drop("Site", site)
    stage.fleet.change("Server", server, software={"php": php})
    stage.fleet.commit()
    stage.apply()
    assert node.run("command -v redis-server", check=False).stdout == ""
    stage.in_sync()
