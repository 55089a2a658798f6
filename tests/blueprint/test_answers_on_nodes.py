"""Static sites, proxies, redirects and headers as both web servers of both families understand them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab import Lab
from reconciler.blueprint.places import WEBROOT

from .served import COMBINATION_IDS, COMBINATIONS, Served, serving

FLEET = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: OS, webServer: WEB, selinux: {mode: disabled}, sshKey: admin, software: {php: ["8.2"]}}
---
kind: Site
metadata: {name: asleep}
spec: {server: web1, domain: asleep.test, www: strip, appType: static, state: suspended}
---
kind: Site
metadata: {name: resting}
spec:
  server: web1
  domain: resting.test
  appType: proxy
  proxy: {upstream: "unix:storage/app.sock"}
  state: suspended
  workers: [{name: app, command: "umask 0; exec /usr/bin/python3 ../app.py ../storage/app.sock"}]
---
kind: Site
metadata: {name: docs}
spec:
  server: web1
  domain: docs.test
  appType: static
  documentRoot: build
  www: strip
  headers:
    X-Frame-Options: null
    referrer-policy: no-referrer
    Content-Security-Policy: default-src 'self'; report-uri "x\\y"
  redirects:
    - {from: /old, to: /new}
    - {from: /a.b, to: "/c?x=1", status: 302}
    - {from: /blog/special, to: /kept, status: 308}
    - {from: /blog/*, to: /news/*, status: 307}
    - {from: /away/*, to: "https://elsewhere.test/*"}
    - {from: /gone/*, to: /}
    - {from: /caf%C3%A9, to: /coffee}
---
kind: Site
metadata: {name: moved}
spec: {server: web1, domain: moved.test, appType: static, redirects: [{from: /*, to: "https://new.test/*"}]}
---
kind: Site
metadata: {name: chat}
spec:
  server: web1
  domain: chat.test
  appType: proxy
  proxy: {upstream: "unix:storage/app.sock", websockets: true, timeout: 3s, maxBodySize: 1M}
  headers: {X-Mine: set}
  limits: {memory: 256M, cpu: 50%, tasks: 100}
  workers: [{name: app, command: "umask 0; exec /usr/bin/python3 ../app.py ../storage/app.sock"}]
---
kind: Site
metadata: {name: api}
spec:
  server: web1
  domain: api.test
  appType: proxy
  proxy: {upstream: "http://127.0.0.1:4711"}
  clientAddress: {trustedProxies: [127.0.0.0/8, "fd00::/8"]}
  workers: [{name: app, command: "exec /usr/bin/python3 ../app.py 4711"}]
---
kind: Site
metadata: {name: shop}
spec:
  server: web1
  domain: www.shop.test
  www: add
  phpVersion: "8.2"
  clientAddress: {trustedProxies: [127.0.0.1]}
  headers: {Permissions-Policy: geolocation=()}
  redirects: [{from: /index.php, to: /}]
---
kind: Site
metadata: {name: front}
spec: {server: web1, domain: front.test, appType: laravel, phpVersion: "8.2", redirects: [{from: /index.php, to: /}]}
"""

APP = r"""
import http.server, os, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            self.wfile.flush()
            while True:
                line = self.rfile.readline()
                if not line:
                    return
                self.wfile.write(b"echo " + line)
                self.wfile.flush()
        if self.path == "/slow":
            import time
            time.sleep(10)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = (self.command + " " + self.path + "\n" + str(self.headers)).encode()
        self.send_response(502 if self.path == "/own-error" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("X-Mine", "of the application")
        self.send_header("X-Powered-By", "secret")
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def address_string(self):
        return "-"

where = sys.argv[1]
if where.isdigit():
    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        pass
    server = Server(("127.0.0.1", int(where)), Handler)
else:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        pass
    if os.path.exists(where):
        os.unlink(where)
    server = Server(where, Handler)
server.serve_forever()
"""


@pytest.fixture(scope="module", params=COMBINATIONS, ids=COMBINATION_IDS)
def served(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Served]:
    image, web = request.param
    with serving(lab, f"answers-{web}-{image}", image, FLEET, web) as made:
        for site in ("chat", "api"):
            made.put(site, "../app.py", APP)
            made.node.run(f"systemctl restart panel-worker-{site}_app@1")
            _until(made, f"{site}.test", 200)
        yield made


def _until(served: Served, host: str, status: int) -> None:
    for _ in range(100):
        if served.get(host)[0] == status:
            return
        time.sleep(0.1)
    raise AssertionError(f"{host} does not answer {status}")


def _header(head: str, name: str) -> list[str]:
    """The values of a header, without regard to case."""
    lines = (line.partition(": ") for line in head.splitlines()[1:])
    return [value for found, _, value in lines if found.lower() == name.lower()]


def _sent_to(served: Served, host: str, path: str, *options: str) -> tuple[int, str]:
    status, head, _ = served.get(host, path, *options)
    return status, (_header(head, "Location") or [""])[0]


def test_a_static_site_serves_files_and_runs_nothing(served: Served) -> None:
    assert "This site is ready" in served.get("docs.test")[2]
    served.put("docs", "build/guide/index.html", "guide")
    served.put("docs", "build/info.php", "<?php echo 'source';")
    served.put("docs", "build/404.html", "no such page")
    assert served.get("docs.test", "/guide/")[::2] == (200, "guide")
    assert _sent_to(served, "docs.test", "/guide") == (301, "/guide/")
    for path in ("/nothing", "/info.php", "/.env"):
        status, _, body = served.get("docs.test", path)
        assert status in (403, 404), path
        assert "source" not in body
    assert served.get("docs.test", "/nothing")[::2] == (404, "no such page")
    units = served.node.run("systemctl list-units --all --plain --no-legend 'panel-fpm-*'").stdout
    assert [line.split()[0] for line in units.splitlines()] == [
        "panel-fpm-front.service",
        "panel-fpm-shop.service",
    ]
    assert served.node.run("ls /run/panel-fpm").stdout.split() == ["front", "shop"]


def test_headers_for_security_are_set_unless_the_manifest_says_otherwise(served: Served) -> None:
    for path in ("/", "/no-such-page"):
        head = served.get("docs.test", path)[1]
        assert _header(head, "X-Content-Type-Options") == ["nosniff"]
        assert _header(head, "X-Frame-Options") == []
        assert _header(head, "Referrer-Policy") == ["no-referrer"]
        assert _header(head, "Content-Security-Policy") == ["default-src 'self'; report-uri \"x\\y\""]


def test_an_application_has_its_say_about_headers_that_the_manifest_is_silent_on(served: Served) -> None:
    head = served.get("chat.test")[1]
    assert _header(head, "X-Frame-Options") == ["DENY"]
    assert _header(head, "X-Content-Type-Options") == ["nosniff"]
    assert _header(head, "X-Mine") == ["set"]
    assert _header(head, "X-Powered-By") == []
    served.put(
        "shop", "h.php", "<?php header('X-Frame-Options: DENY'); header('Permissions-Policy: camera=()');"
    )
    head = served.get("www.shop.test", "/h.php")[1]
    assert _header(head, "X-Frame-Options") == ["DENY"]
    assert _header(head, "Permissions-Policy") == ["geolocation=()"]


@pytest.mark.parametrize(
    ("path", "status", "target"),
    [
        ("/old", 301, "/new"),
        ("/old?a=b&c", 301, "/new?a=b&c"),
        ("/a.b", 302, "/c?x=1"),
        ("/a.b?y=2", 302, "/c?x=1"),
        ("/blog/special?q", 308, "/kept?q"),
        ("/blog/2024/post?page=2", 307, "/news/2024/post?page=2"),
        ("/blog/", 307, "/news/"),
        ("/away/x/y?z", 301, "https://elsewhere.test/x/y?z"),
        ("/gone/anything", 301, "/"),
        ("/caf%C3%A9", 301, "/coffee"),
        # nothing that a visitor writes leads him to another host, or adds a line to the answer
        ("/blog//evil.test/x", 307, "/news/evil.test/x"),
        ("/blog/\\evil.test", 307, "/news/evil.test"),
        ("/blog/%0d%0aSet-Cookie:%20a=b", 307, "/news/%0d%0aSet-Cookie:%20a=b"),
    ],
)
def test_redirects_are_those_of_the_manifest_in_their_order(
    served: Served, path: str, status: int, target: str
) -> None:
    assert _sent_to(served, "docs.test", path) == (status, target)


@pytest.mark.parametrize("path", ["/older", "/old/x", "/aXb", "/blog", "/OLD"])
def test_what_only_resembles_a_redirect_is_served_as_ever(served: Served, path: str) -> None:
    assert served.get("docs.test", path)[0] == 404


def test_a_site_that_has_moved_still_shows_that_its_domain_is_its_own(served: Served) -> None:
    folder = f"{WEBROOT}/.well-known/acme-challenge"  # where certbot puts the proofs of all sites
    served.node.run(f"mkdir -p {folder} && printf proof > {folder}/token")
    assert served.get("moved.test", "/.well-known/acme-challenge/token")[::2] == (200, "proof")
    assert _sent_to(served, "moved.test", "/") == (301, "https://new.test/")
    assert _sent_to(served, "moved.test", "/a/b?c") == (301, "https://new.test/a/b?c")


def test_the_script_behind_a_front_controller_can_be_redirected_without_a_circle(served: Served) -> None:
    served.put("front", "public/index.php", "<?php echo 'front ', $_SERVER['REQUEST_URI'];")
    assert served.get("front.test", "/a/b?c")[::2] == (200, "front /a/b?c")
    assert served.get("front.test", "/")[::2] == (200, "front /")
    assert _sent_to(served, "front.test", "/index.php?x") == (301, "/?x")


def test_of_two_names_one_is_sent_on_to_the_other(served: Served) -> None:
    assert _sent_to(served, "www.docs.test", "/a?b") == (301, "http://docs.test/a?b")
    assert _sent_to(served, "shop.test", "/a//b?c=%20") == (301, "http://www.shop.test/a//b?c=%20")
    assert served.get("www.shop.test")[0] == 200
    env = served.node.run(f"cat /home/{served.user('shop')}/.env").stdout
    assert 'APP_URL="http://www.shop.test"' in env


def test_behind_a_load_balancer_the_visitor_and_his_scheme_are_known(served: Served) -> None:
    served.put(
        "shop",
        "who.php",
        "<?php echo $_SERVER['REMOTE_ADDR'], ' ', $_SERVER['HTTPS'] ?? '-', ' ', $_SERVER['REQUEST_SCHEME'];",
    )
    over = ("-H", "X-Forwarded-For: 192.0.2.1, 198.51.100.7", "-H", "X-Forwarded-Proto: https")
    assert served.get("www.shop.test", "/who.php", *over)[2] == "198.51.100.7 on https"
    assert served.get("www.shop.test", "/who.php")[2] == "127.0.0.1 - http"
    assert _sent_to(served, "shop.test", "/", *over) == (301, "https://www.shop.test/")
    assert _sent_to(served, "shop.test", "/", "-H", "X-Forwarded-Proto: evil") == (
        301,
        "http://www.shop.test/",
    )


def test_whoever_is_not_trusted_cannot_pretend_to_be_another(served: Served) -> None:
    forged = (
        "-H",
        "X-Forwarded-For: 192.0.2.1",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "Forwarded: for=192.0.2.1",
    )
    served.put(
        "front", "public/index.php", "<?php echo $_SERVER['REMOTE_ADDR'], ' ', $_SERVER['HTTPS'] ?? '-';"
    )
    assert served.get("front.test", "/", *forged)[2] == "127.0.0.1 -"
    _, _, body = served.get("chat.test", "/", *forged, "-H", "X-Real-IP: 192.0.2.1")
    assert "192.0.2.1" not in body
    assert _header(body, "X-Forwarded-For") == _header(body, "X-Real-IP") == ["127.0.0.1"]
    assert _header(body, "X-Forwarded-Proto") == ["http"]


def test_a_proxy_hands_requests_on_as_they_were_sent(served: Served) -> None:
    over = ("-H", "X-Forwarded-For: 198.51.100.7", "-H", "X-Forwarded-Proto: https", "-H", "Proxy: evil")
    status, _, body = served.get("api.test", "/a//b/%2e%2e/?c=%20", *over)
    assert (status, body.splitlines()[0]) == (200, "GET /a//b/%2e%2e/?c=%20")
    assert _header(body, "Host") == ["api.test"]
    assert _header(body, "X-Forwarded-For") == _header(body, "X-Real-IP") == ["198.51.100.7"]
    assert _header(body, "X-Forwarded-Proto") == ["https"]
    assert _header(body, "Proxy") == []
    assert served.get("chat.test", "/x", "-d", "a=b")[2].splitlines()[0] == "POST /x"
    assert served.get("chat.test", "/.hidden")[0] == 200
    served.node.run("head -c 1048577 /dev/zero > /root/big")
    assert served.get("chat.test", "/", "--data-binary", "@/root/big")[0] == 413


WEBSOCKET = """
import socket, sys
s = socket.create_connection(("127.0.0.1", 80), 10)
s.sendall(("GET / HTTP/1.1\\r\\nHost: %s\\r\\nConnection: Upgrade\\r\\nUpgrade: %s\\r\\n\\r\\n" % tuple(sys.argv[1:])).encode())
answer = s.recv(4096).decode()
print(answer.split()[1])
if answer.split()[1] == "101":
    s.sendall(b"hello\\n")
    print(s.recv(100).decode().strip())
"""


def _upgraded(served: Served, host: str, protocol: str) -> list[str]:
    return served.node.run_argv(["/usr/bin/python3", "-c", WEBSOCKET, host, protocol]).stdout.split("\n")[:-1]


def test_websockets_are_handed_on_where_the_manifest_says_so_and_other_changes_nowhere(
    served: Served,
) -> None:
    assert _upgraded(served, "chat.test", "WebSocket") == ["101", "echo hello"]
    assert _upgraded(served, "chat.test", "h2c") == ["200"]
    assert _upgraded(served, "api.test", "websocket") == ["200"]


def test_a_page_tells_that_the_application_is_down_and_its_own_errors_are_left(served: Served) -> None:
    assert served.get("chat.test", "/own-error")[2].startswith("GET /own-error")
    status, head, body = served.get("chat.test", "/slow")
    assert (status, "This site does not answer" in body) == (504, True)
    served.node.run("systemctl stop panel-worker-chat_app@1")
    try:
        status, head, body = served.get("chat.test", "/style.css")
        assert (status, "This site does not answer" in body) == (502, True)
        assert _header(head, "Content-Type") == ["text/html; charset=utf-8"]
        assert _header(head, "X-Content-Type-Options") == ["nosniff"]
    finally:
        served.node.run("systemctl start panel-worker-chat_app@1")
    _until(served, "chat.test", 200)


def test_nobody_else_reaches_the_socket_of_an_application(served: Served) -> None:
    connect = f"curl -s --max-time 5 --unix-socket /home/{served.user('chat')}/storage/app.sock http://x/"
    assert served.as_user("chat", connect) == 0
    assert served.as_user("api", connect) == 7  # 7: no connection


@pytest.mark.parametrize("host", ["asleep.test", "www.asleep.test", "resting.test"])
def test_a_suspended_site_of_any_kind_answers_503_and_its_workers_are_stopped(
    served: Served, host: str
) -> None:
    for path in ("/", "/index.html", "/old"):
        status, head, body = served.get(host, path)
        assert (status, "This site is suspended" in body) == (503, True)
        assert _header(head, "Retry-After") == ["3600"]
    states = served.node.run("systemctl is-active panel-worker-resting_app@1", check=False).stdout
    assert states.strip() == "inactive"


def test_the_units_of_a_site_are_in_its_slice_which_has_its_limits(served: Served) -> None:
    """That a kernel holds to them is shown where there is one with all controllers: tests/vm."""
    names = ("MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax", "ActiveState")
    shown = served.node.output(f"systemctl show {' '.join(f'-p {n}' for n in names)} panel-site-chat.slice")
    found = dict(line.split("=") for line in shown.splitlines())
    assert [found[name] for name in names] == [str(256 << 20), "0", "500ms", "100", "active"]
    for unit in ("panel-worker-chat_app@1", "panel-worker-api_app@1", "panel-fpm-shop"):
        site = unit.split("-")[-1].split("_")[0]
        group = served.node.output(f"systemctl show -P ControlGroup {unit}.service")
        assert f"/panel.slice/panel-site.slice/panel-site-{site}.slice/" in group
    said = served.node.run(
        "systemd-analyze verify panel-site-chat.slice panel-fpm-shop.service 2>&1", check=False
    ).stdout
    assert "Unknown" not in said


def test_the_web_server_has_no_complaint_about_these_files(served: Served) -> None:
    if served.web == "caddy":
        said = served.node.run("caddy validate --config /etc/caddy/Caddyfile 2>&1").stdout
        warnings = [line for line in said.splitlines() if '"level":"warn"' in line]
        assert all("automatic HTTPS is completely disabled" in line for line in warnings), warnings
        assert "Valid configuration" in said
        return
    said = served.node.run("nginx -t 2>&1").stdout
    # Enterprise Linux has a server of that name in its own file; what the oldest nginx of EL 9 knows the newest deprecates
    expected = ('server name "_"', 'the "listen ... http2" directive is deprecated')
    warnings = [line for line in said.splitlines() if "[warn]" in line]
    assert [line for line in warnings if not any(known in line for known in expected)] == []
    assert "test is successful" in said
