"""What is rendered works: real nginx, php-fpm, systemd, MariaDB and PostgreSQL of both families take it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from reconciler import blueprint
from reconciler.platforms import for_os

from .fleets import fleet_of, only_server, system_users
from .served import COMBINATION_IDS, COMBINATIONS, Served, password, serving

FLEET = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: OS, webServer: WEB, selinux: {mode: disabled}, sshKey: admin, databaseEngines: [mariadb, postgresql], software: {php: ["8.2"]}}
---
kind: Site
metadata: {name: blog}
spec: {server: web1, domain: blog.test, aliases: [www.blog.test], appType: wordpress, phpVersion: "8.2"}
---
kind: Site
metadata: {name: shop}
spec: {server: web1, domain: shop.test, appType: laravel, phpVersion: "8.2", env: {ODD: 'a"b\\c$d ${e} `f` #g'}}
---
kind: Site
metadata: {name: tool}
spec:
  server: web1
  domain: a-very-long-name-that-does-not-fit-into-the-default.hash-bucket-of-nginx.test
  phpVersion: "8.2"
  documentRoot: web
  php: {memoryLimit: 96M, uploadMaxFilesize: 3M, maxExecutionTime: 7, maxChildren: 2}
---
kind: Site
metadata: {name: asleep}
spec: {server: web1, domain: asleep.test, phpVersion: "8.2", state: suspended}
---
kind: Database
metadata: {name: blog-db}
spec: {server: web1, site: blog, engine: mariadb, name: blog, username: blog_user}
---
kind: Database
metadata: {name: shop-db}
spec: {server: web1, site: shop, engine: postgresql, name: shop, username: shop_user}
"""
TOOL = "a-very-long-name-that-does-not-fit-into-the-default.hash-bucket-of-nginx.test"


@pytest.fixture(scope="module", params=COMBINATIONS, ids=COMBINATION_IDS)
def served(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Served]:
    image, web = request.param
    with serving(lab, f"blueprint-{web}-{image}", image, FLEET, web) as made:
        yield made


def _nginx_alone(served: Served) -> None:
    """docs/webservers.md tells that caddy has no such thing, and validation warns of it where it costs something."""
    if served.web != "nginx":
        pytest.skip(f"{served.web} has no such thing")


def test_a_new_site_shows_the_welcome_page_with_security_headers(served: Served) -> None:
    for host in ("blog.test", "www.blog.test", "shop.test", TOOL):
        status, head, body = served.get(host)
        assert (status, "This site is ready" in body) == (200, True), host
        assert "X-Content-Type-Options: nosniff" in head
        assert "X-Frame-Options: SAMEORIGIN" in head
        assert "nginx/" not in head
        assert "Caddy" not in head


def test_unknown_hosts_get_no_answer(served: Served) -> None:
    done = served.node.run("curl -s -H 'Host: nobody.test' http://127.0.0.1/", check=False)
    assert (done.returncode, done.stdout) == (52, "")  # 52: an empty reply


PROBE = """<?php
session_start();
header('Content-Type: text/plain');
header('X-Powered-By: secret');
function line($name, $value) { echo $name, '=', $value, "\n"; }
line('user', posix_getpwuid(posix_geteuid())['name'] ?? '?');
line('version', PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION);
foreach (['memory_limit', 'upload_max_filesize', 'post_max_size', 'max_execution_time', 'open_basedir',
          'session.save_path', 'upload_tmp_dir', 'error_log', 'display_errors', 'mysqli.default_socket'] as $name)
    line($name, ini_get($name));
line('root', $_SERVER['DOCUMENT_ROOT']);
line('script', $_SERVER['SCRIPT_FILENAME']);
line('uri', $_SERVER['REQUEST_URI']);
line('query', http_build_query($_GET));
line('proxy', getenv('HTTP_PROXY') === false ? '' : getenv('HTTP_PROXY'));
line('passwd', @file_get_contents('/etc/passwd') === false ? 'refused' : 'read');
line('temporary', file_put_contents(tempnam(sys_get_temp_dir(), 'x'), 'x') === 1 ? sys_get_temp_dir() : 'failed');
line('slash_tmp', file_put_contents('/tmp/mine', 'x') === 1 ? 'private' : 'failed');
line('upload', isset($_FILES['f']) ? $_FILES['f']['error'] . ':' . $_FILES['f']['size'] : '');
$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
line('session', $_SESSION['n']);
"""


def _probe(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines())


def test_php_runs_as_the_site_user_with_the_limits_of_the_manifest(served: Served) -> None:
    served.put("tool", "web/probe.php", PROBE)
    status, head, body = served.get(TOOL, "/probe.php?a=b", "-H", "Proxy: evil")
    found = _probe(body)
    home = f"/home/{served.user('tool')}"
    assert status == 200, body
    assert "X-Powered-By" not in head
    assert found["user"] == served.user("tool")
    assert found["version"] == "8.2"
    assert (found["memory_limit"], found["upload_max_filesize"], found["post_max_size"]) == (
        "96M",
        "3M",
        "4M",
    )
    assert found["max_execution_time"] == "7"
    assert found["root"] == f"{home}/public_html/web"
    assert found["script"] == f"{home}/public_html/web/probe.php"
    assert found["query"] == "a=b"
    assert found["proxy"] == ""
    assert found["passwd"] == "refused"
    assert (found["temporary"], found["slash_tmp"]) == (f"{home}/tmp", "private")
    assert found["session"] == "1"
    assert served.node.run(f"ls {home}/sessions").stdout.startswith("sess_")
    assert served.node.run("test -e /tmp/mine", check=False).returncode == 1


def test_uploads_up_to_the_limit_pass_and_bigger_ones_are_refused(served: Served) -> None:
    served.put("tool", "web/probe.php", PROBE)
    served.node.run("head -c 3145728 /dev/zero > /root/3m; head -c 5242880 /dev/zero > /root/5m")
    status, _, body = served.get(TOOL, "/probe.php", "-F", "f=@/root/3m")
    assert (status, _probe(body)["upload"]) == (200, "0:3145728")
    assert served.get(TOOL, "/probe.php", "-F", "f=@/root/5m")[0] == 413


def test_laravel_sends_every_path_to_its_front_controller(served: Served) -> None:
    served.put("shop", "public/index.php", PROBE)
    served.put("shop", "public/other.php", "<?php echo 'ran';")
    served.put("shop", "public/style.css", "body{}")
    for path in ("/", "/orders/7?x=1", "/favicon.ico"):
        status, _, body = served.get("shop.test", path)
        assert status == 200, body
        assert _probe(body)["uri"] == path
    assert served.get("shop.test", "/style.css")[2] == "body{}"
    status, _, body = served.get("shop.test", "/other.php")
    assert (status, "<?php" in body, "ran" in body) == (404, False, False)
    served.node.run(f"rm /home/{served.user('shop')}/public_html/public/index.php")


def test_generic_sites_run_each_script_and_answer_404_for_the_rest(served: Served) -> None:
    served.put("tool", "web/sub/hello.php", "<?php echo 'hello ', basename(__DIR__);")
    assert served.get(TOOL, "/sub/hello.php")[::2] == (200, "hello sub")
    assert served.get(TOOL, "/nothing")[0] == 404
    assert served.get(TOOL, "/nothing.php")[0] == 404
    assert served.get(TOOL, "/welcome.jpg/x.php")[0] == 404


@pytest.mark.parametrize(
    "path", ["/.env", "/.git/config", "/.htaccess", "/sub/.secret/x", "/%2eenv", "//.env", "/x/../.env"]
)
@pytest.mark.parametrize("site", ["blog", "shop", "tool"])
def test_hidden_files_are_never_served(served: Served, site: str, path: str) -> None:
    folder = {"blog": "", "shop": "public/", "tool": "web/"}[site]
    for name in (".git/config", ".htaccess", "sub/.secret/x"):
        served.put(site, folder + name, "hidden")
    served.node.run(
        f"test -e /home/{served.user(site)}/public_html/{folder}.env || "
        f"install -m 644 /dev/null /home/{served.user(site)}/public_html/{folder}.env"
    )
    host = {"blog": "blog.test", "shop": "shop.test", "tool": TOOL}[site]
    status, _, body = served.get(host, path)
    assert status in (403, 404)
    assert "hidden" not in body


def test_well_known_files_are_served(served: Served) -> None:
    served.put("blog", ".well-known/security.txt", "contact")
    assert served.get("blog.test", "/.well-known/security.txt")[::2] == (200, "contact")


def test_wordpress_uploads_are_not_run(served: Served) -> None:
    for name in ("shell.php", "deep/shell.PHP", "shell.phtml"):
        served.put("blog", f"wp-content/uploads/{name}", "<?php echo 'ran';")
        status, _, body = served.get("blog.test", f"/wp-content/uploads/{name}")
        assert status == 403, name
        assert "ran" not in body


def test_wordpress_pages_are_cached_for_visitors_only(served: Served) -> None:
    _nginx_alone(served)
    served.put("blog", "index.php", "<?php echo 'page ', random_int(0, PHP_INT_MAX);")
    served.put("blog", "wp-login.php", "<?php echo random_int(0, PHP_INT_MAX);")

    def cached(path: str, *options: str, host: str = "blog.test") -> tuple[bool, str]:
        answers = [served.get(host, path, *options) for _ in range(2)]
        assert {status for status, _, _ in answers} == {200}
        states = [line[9:] for line in answers[1][1].splitlines() if line.startswith("X-Cache: ")]
        return answers[0][2] == answers[1][2], (states or ["none"])[0]

    assert cached("/a-post/") == (True, "HIT")
    assert cached("/another-post/", host="www.blog.test") == (True, "HIT")
    assert cached("/a-post/?s=search") == (False, "BYPASS")
    assert cached("/a-post/", "-b", "wordpress_logged_in_abc=x") == (False, "BYPASS")
    assert cached("/a-post/", "-b", "woocommerce_items_in_cart=1") == (False, "BYPASS")
    assert cached("/a-post/", "-d", "comment=x") == (False, "none")
    assert cached("/a-post/", "-H", "Authorization: Basic eDp4") == (False, "BYPASS")
    assert cached("/wp-login.php") == (False, "BYPASS")
    assert cached("/a-post/", "-b", "wordpress_test_cookie=x") == (True, "HIT")
    served.node.run(f"rm /home/{served.user('blog')}/public_html/index.php")


def test_pages_with_a_cookie_of_their_own_are_not_cached(served: Served) -> None:
    served.put("blog", "cookie.php", "<?php setcookie('c', '1'); echo random_int(0, PHP_INT_MAX);")
    assert served.get("blog.test", "/cookie.php")[2] != served.get("blog.test", "/cookie.php")[2]


def test_a_suspended_site_answers_503_for_everything(served: Served) -> None:
    served.put("asleep", "index.php", "<?php echo 'ran';")
    for path in ("/", "/index.php", "/.env", "/favicon.ico"):
        status, head, body = served.get("asleep.test", path)
        assert status == 503
        assert "Retry-After: 3600" in head
        assert "text/html" in head
        assert "This site is suspended" in body
    states = served.node.run(
        "systemctl is-active panel-fpm-asleep; systemctl is-enabled panel-fpm-asleep", check=False
    )
    assert states.stdout.split() == ["inactive", "disabled"]


def test_sites_cannot_read_each_other(served: Served) -> None:
    home = f"/home/{served.user('shop')}"
    served.put("shop", "public/page.txt", "text of the shop")
    assert served.as_user("shop", f"cat {home}/public_html/public/page.txt {home}/.env") == 0
    for path in (home, f"{home}/public_html/public/page.txt", f"{home}/.env"):
        assert served.as_user("blog", f"ls -d {path}/. || cat {path}") != 0, path
    assert served.as_user("blog", "touch /run/panel-fpm/shop/x") != 0
    connect = "curl -s --max-time 5 --unix-socket /run/panel-fpm/shop/php.sock http://x/"
    assert served.as_user("blog", connect) == 7  # 7: no connection
    assert served.as_user("shop", connect) not in (0, 7)  # connected, and php-fpm does not speak HTTP
    stat = served.node.run(
        f"stat -c '%a %U:%G' {home} {home}/.env {home}/public_html {home}/storage"
    ).stdout.splitlines()
    group = for_os(only_server(served.fleet).spec.os.value).web(served.web).group
    user = served.user("shop")
    assert stat == [f"710 {user}:{group}", f"600 {user}:{user}", f"755 {user}:{user}", f"755 {user}:{user}"]


def test_a_site_cannot_publish_what_belongs_to_another_through_a_link(served: Served) -> None:
    _nginx_alone(served)
    served.put("shop", "public/page.txt", "text of the shop")
    there, here = f"/home/{served.user('shop')}", f"/home/{served.user('tool')}"
    served.put("tool", "web/own.txt", "own")
    served.node.run(
        f"runuser -u {served.user('tool')} -- sh -c 'ln -sfn {there}/public_html/public/page.txt {here}/public_html/web/stolen.txt; "
        f"ln -sfn {there}/public_html {here}/public_html/web/all; ln -sfn own.txt {here}/public_html/web/fine.txt'"
    )
    assert served.get("shop.test", "/page.txt")[::2] == (200, "text of the shop")
    assert served.get(TOOL, "/fine.txt")[::2] == (200, "own")
    assert served.get(TOOL, "/stolen.txt")[0] in (403, 404)
    assert served.get(TOOL, "/all/public/page.txt")[0] in (403, 404)
    # nor by putting a link in the place of the whole folder
    served.node.run(
        f"runuser -u {served.user('tool')} -- sh -c 'mv {here}/public_html {here}/aside; ln -s {there}/public_html {here}/public_html; "
        f"mkdir -p {here}/x'"
    )
    served.node.run(
        f"ln -sfn public {there}/public_html/web && chown -h {served.user('shop')} {there}/public_html/web"
    )
    try:
        assert served.get(TOOL, "/page.txt")[0] in (403, 404)
    finally:
        served.node.run(
            f"rm {here}/public_html {there}/public_html/web && mv {here}/aside {here}/public_html"
        )


LOGIN = """<?php
$env = parse_ini_file(dirname(__DIR__, DEPTH) . '/.env', false, INI_SCANNER_NORMAL);
$host = $env['DB_CONNECTION'] . ':host=' . $env['DB_HOST'] . ';port=' . $env['DB_PORT'] . ';dbname=' . $env['DB_DATABASE'];
try {
    $db = new PDO($host, $env['DB_USERNAME'], $env['DB_PASSWORD'], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $db->exec('CREATE TABLE IF NOT EXISTS t (n INT)');
    echo 'rows ', $db->query('SELECT count(*) FROM t')->fetchColumn(), ' ', $env['APP_URL'];
} catch (PDOException $e) { echo $e->getMessage(); }
"""


def test_applications_log_in_to_their_databases_with_their_env_file(served: Served) -> None:
    served.put("blog", "login.php", LOGIN.replace("DEPTH", "1"))
    assert served.get("blog.test", "/login.php?x")[2] == "rows 0 http://blog.test"
    served.put("shop", "public/index.php", LOGIN.replace("DEPTH", "2"))
    assert served.get("shop.test", "/")[2] == "rows 0 http://shop.test"
    served.node.run(f"rm /home/{served.user('shop')}/public_html/public/index.php")


def test_databases_answer_on_this_node_only(served: Served) -> None:
    listening = served.node.run(
        "ss -Hltn '( sport = 3306 or sport = 5432 )' | awk '{print $4}'"
    ).stdout.split()
    assert {address.rpartition(":")[0] for address in listening} <= {"127.0.0.1", "[::1]"}
    assert len(listening) >= 2
    refused = served.node.run(
        "runuser -u nobody -- psql -h 127.0.0.1 -U postgres -w -c 'select 1'", check=False
    )
    assert refused.returncode != 0


def test_systemd_reads_back_odd_values_of_an_env_file(served: Served) -> None:
    user = served.user("shop")
    done = served.node.run(
        f"systemd-run --quiet --wait --pipe -p EnvironmentFile=/home/{user}/.env /usr/bin/env -0 | tr '\\0' '\\n' | grep ^ODD="
    )
    assert done.stdout == 'ODD=a"b\\c$d ${e} `f` #g\n'


def test_php_reads_back_odd_values_of_an_env_file(served: Served) -> None:
    code = f"echo parse_ini_file('/home/{served.user('shop')}/.env')['ODD'];"
    php = "/opt/remi/php82/root/usr/bin/php" if served.node.image.name.startswith("el") else "/usr/bin/php8.2"
    assert served.node.run_argv([php, "-r", code]).stdout == 'a"b\\c$d ${e} `f` #g'


def test_the_unit_reloads_without_losing_its_socket_and_logs_to_the_journal(served: Served) -> None:
    served.put("tool", "web/ok.php", "<?php echo 'ok'; error_log('a note');")
    before = served.node.output("systemctl show -P MainPID panel-fpm-tool")
    served.node.run("systemctl reload panel-fpm-tool")
    assert served.get(TOOL, "/ok.php")[2] == "ok"
    assert served.node.output("systemctl show -P MainPID panel-fpm-tool") == before
    assert "a note" in served.node.run(f"cat /home/{served.user('tool')}/logs/php-error.log").stdout
    served.node.run(
        f"logrotate -f /etc/logrotate.d/panel-tool && test -s /home/{served.user('tool')}/logs/php-error.log.1"
    )
    assert "ready to handle connections" in served.node.run("journalctl -u panel-fpm-tool -o cat").stdout
    owner = served.node.output("ps -o user= -p $(systemctl show -P MainPID panel-fpm-tool)")
    assert owner == served.user("tool")
    assert (
        "Unknown"
        not in served.node.run("systemd-analyze verify panel-fpm-tool.service 2>&1", check=False).stdout
    )


def test_the_distribution_own_php_serves_nothing_on_debian(served: Served) -> None:
    if not served.node.image.name.startswith("debian"):
        pytest.skip("on Enterprise Linux packages start nothing")
    states = served.node.run(
        "systemctl is-active php8.2-fpm; systemctl is-enabled php8.2-fpm", check=False
    ).stdout
    assert states.split() == ["inactive", "disabled"]


def test_a_database_root_without_password_is_closed_at_the_first_start(served: Served) -> None:
    """Enterprise Linux 8 installs MariaDB that way; here such a root is made, then that platform's files are put in place."""
    if served.node.image.name.startswith("debian"):
        pytest.skip("the files are those of Enterprise Linux 8")
    fleet = fleet_of(FLEET.replace("OS", "alma_8").replace("WEB", "nginx"))
    server = blueprint.sections(only_server(fleet), fleet, system_users(fleet), password)[0]
    log_in = "runuser -u nobody -- mariadb -u root -e 'select 1'"
    served.node.run(
        "mariadb -e \"ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING ''; "
        "CREATE USER root@127.0.0.1; CREATE USER ''@localhost\""
    )
    assert served.node.run(log_in, check=False).returncode == 0
    for step in server.steps:
        if step.target in ("/etc/panel/mariadb-init.sql", "/etc/my.cnf.d/zz-panel.cnf"):
            assert step.body is not None
            assert step.body.content is not None
            served.node.write(step.target, step.body.content.decode())
    served.node.run("systemctl restart mariadb")
    assert served.node.run(log_in, check=False).returncode != 0
    assert served.node.run("runuser -u nobody -- mariadb -h 127.0.0.1 -u root", check=False).returncode != 0
    left = served.node.run("mariadb -Ne 'select user, host from mysql.user order by 1'").stdout
    assert "127.0.0.1" not in left
    assert "root\tlocalhost" in left
