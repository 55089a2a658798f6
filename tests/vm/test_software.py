"""Redis of sites, and caddy instead of nginx, under an enforcing kernel: put there by the daemon on a server that has sites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.selinux.explain import explain
from tests.vm import denials
from tests.vm.stage import SERVER
from tests.vm.world import PROVISIONED, SITES, World

CONNECT = "$r = new Redis(); $r->connect('/run/panel-redis/{site}/redis.sock', 0);"
USE = (
    CONNECT + "$r->set('of', '{site}'); $r->save(); echo $r->get('of'), ' ', $r->config('GET', 'dir')['dir'];"
)
LOOK = "try {{ " + CONNECT + " echo $r->get('of'); }} catch (RedisException $e) {{ echo 'refused'; }}"
# What keeps others from a Redis besides SELinux, taken away; the other site's PHP runs as the same user.
OPEN = """
chmod 0777 /run/panel-redis /run/panel-redis/one /run/panel-redis/one/redis.sock
chmod -R 0777 /home/web1
"""
APP = """
import os, socket
path = "../storage/app.sock"
if os.path.exists(path): os.unlink(path)
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen()
while True:
    c = s.accept()[0]
    c.recv(65536)
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\nConnection: close\\r\\n\\r\\nof the app")
    c.close()
"""
SERVE = f"umask 0; exec python3 -c \"exec(bytes.fromhex('{APP.encode().hex()}'))\""


@pytest.fixture(scope="module")
def changed(built: World) -> Iterator[World]:
    """Both sites have a Redis now and the web server is caddy, with a static site and an application behind it."""
    built.machine.restore(PROVISIONED)
    stage, fleet = built.stage, built.stage.fleet
    with stage.put_back():
        fleet.change("Server", SERVER, software={"php": ["8.2"], "redis": True}, webServer="caddy")
        for name in SITES:
            fleet.change("Site", name, redis={})
        fleet.put("Site", "docs", server=SERVER, domain="docs.test", appType="static")
        fleet.put(
            "Site",
            "app",
            server=SERVER,
            domain="app.test",
            appType="proxy",
            proxy={"upstream": "unix:storage/app.sock"},
            workers=[{"name": "serve", "command": SERVE}],
        )
        stage.push("Give the sites Redis, and the server caddy")
        with stage.served(60):
            stage.reach()
        built.warm_up()
        yield built


def test_what_serves_runs_in_its_domain_and_nothing_was_refused_on_the_way(changed: World) -> None:
    machine = changed.machine
    for site in SITES:
        assert (
            changed.php(site, USE.format(site=site))
            == f"{site} /home/{changed.sites[site].user}/storage/redis"
        )
    assert changed.stage.get("docs")[0] == 200
    assert changed.stage.get("app") == (200, "of the app")
    machine.run("systemctl reload caddy && systemctl restart panel-redis-one")
    changed.warm_up()
    assert changed.php("one", LOOK.format(site="one")) == "one", "what was kept outlives a restart"
    lines = [line.split(None, 1) for line in machine.output("ps -eo label,args --no-headers").splitlines()]
    running = {(line[0], line[1].split()[0]) for line in lines}
    for one in changed.sites.values():
        assert (f"system_u:system_r:laravel_redis_t:{one.level}", "/usr/bin/redis-server") in running
        data = machine.output(f"find {one.home}/storage/redis -printf '%Z\\n' | sort -u")
        assert data == f"system_u:object_r:laravel_redis_db_t:{one.level}"
        sockets = machine.output(f"find /run/panel-redis/{one.name} -printf '%Z\\n' | sort -u")
        assert sockets == f"system_u:object_r:laravel_redis_run_t:{one.level}"
    caddy = {label for label, program in running if program == "/usr/bin/caddy"}
    assert caddy == {"system_u:system_r:laravel_nginx_t:s0"}
    assert machine.output("stat -c %C /run/caddy/admin.sock").split(":")[2] == "httpd_runtime_t"
    logs = machine.output("find /var/log/caddy -printf '%Z\\n' | sort -u")
    assert {line.split(":")[2] for line in logs.splitlines()} == {"laravel_caddy_log_t"}
    found = {denials.refusal(one): (one.comm, one.object) for one in denials.since(machine)}
    assert found.keys() == denials.BOOT, found


def test_caddy_does_not_hand_out_what_the_policy_keeps_from_the_web_server(changed: World) -> None:
    machine, home = changed.machine, changed.sites["one"].home
    kept = "/etc/panel/caddy/one.caddy"
    machine.run(
        f"cp {kept} /root/kept; sed -i '0,/{{/s||{{\\n\\thandle /env {{\\n\\t\\trewrite * /.env\\n\\t\\troot * {home}\\n"
        f"\\t\\tfile_server\\n\\t}}|' {kept}; chmod 0755 {home}; chmod 0644 {home}/.env; systemctl reload caddy"
    )
    marked = denials.mark(machine)
    assert changed.stage.get("one", "/env")[0] == 403
    refused = {denials.refusal(one)[:2] for one in denials.since(machine, marked)}
    assert refused == {("laravel_nginx_t", "laravel_env_t")}
    machine.run(f"chcon -t site_content_t {home}/.env")
    assert "APP_URL" in changed.stage.get("one", "/env")[1], "else something else has refused it"
    machine.run(
        f"cp /root/kept {kept}; restorecon -F {home}/.env; chmod 0600 {home}/.env; systemctl reload caddy"
    )


def test_the_redis_of_a_site_is_no_other_sites_even_with_every_mode_open(changed: World) -> None:
    machine = changed.machine
    changed.open_up()
    machine.run(OPEN)
    marked = denials.mark(machine)
    assert changed.php("two", LOOK.format(site="one")) == "refused"
    dump = "echo json_encode(@file_get_contents('/home/web1/storage/redis/dump.rdb'));"
    assert changed.php("two", dump) == "false"
    found = denials.since(machine, marked)
    assert {denials.refusal(one)[:2] for one in found} == {
        ("laravel_php_fpm_t", "laravel_redis_run_t"),
        ("laravel_php_fpm_t", "site_content_t"),
    }
    assert {explain(one).cause for one in found} == {"isolation"}
    # and its own PHP speaks to it, but does not read its files
    assert changed.php("one", LOOK.format(site="one")) == "one"
    assert changed.php("one", dump) == "false"

    machine.run("chcon -R -l s0 /run/panel-redis/one")
    reached = changed.php("two", LOOK.format(site="one"))
    # Debian's kernel has a second look at who is at the other end
    assert reached == "refused"
    refused = {denials.refusal(one) for one in denials.since(machine, marked)}
    assert ("laravel_php_fpm_t", "laravel_redis_t", "unix_stream_socket", "connectto") in refused
