"""A server changes from nginx to caddy and back under load: no visitor notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab, Node

from .harness import Stage, boot, fetch, upload, wait_for
from .load import VISITORS, Secure, visitors

PAGE = "<?php usleep(1000 * (int) ($_GET['ms'] ?? 5)); echo 'page';"
TLS = {"mode": "selfSigned", "forceHttps": False}
DROP_INS = "/run/systemd/system/caddy.service.d"
IMAGES = {"el9": "el9-web", "debian12": "debian12-web"}


@pytest.fixture(scope="module", params=list(IMAGES))
def moving(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A server with a PHP site and a static one, both of which answer."""
    nodes = boot(lab, web=IMAGES[request.param])
    stage = Stage.build(tmp_path_factory.mktemp("moving"))
    try:
        stage.enroll("web", nodes["web"])
        stage.site("app", "web")
        stage.fleet.put("Site", "docs", server="web", domain="docs.test", appType="static", tls=TLS)
        stage.fleet.commit()
        stage.apply()
        upload(nodes["web"], stage.user("app"), PAGE)
        yield stage
    finally:
        for node in nodes.values():
            node.remove()


def _change(stage: Stage, web_server: str, code: int = 0) -> str:
    stage.fleet.change("Server", "web", webServer=web_server)
    stage.fleet.commit()
    return stage.apply(code=code).text


def _in_charge(node: Node) -> list[str]:
    """Which of the two runs, and is started at a boot."""
    found = []
    for unit in ("nginx", "caddy"):
        states = [
            node.run(f"systemctl {verb} {unit}", check=False).stdout.strip()
            for verb in ("is-active", "is-enabled")
        ]
        found += [unit] if states == ["active", "enabled"] else []
    return found


def _nothing_is_left(node: Node) -> None:
    assert node.run("nft list tables | grep -c handover", check=False).stdout.strip() == "0"
    assert node.run("systemctl is-active panel-handover", check=False).stdout.strip() == "inactive"
    assert node.run("ls /run/systemd/system/panel-handover.service", check=False).returncode != 0
    lists = node.run(
        "getfacl -ps /home/* /etc/panel/tls/* /etc/panel/tls/*/* 2>/dev/null | grep -c '^user:[a-z]' || true",
        check=False,
    ).stdout.strip()
    assert lists == "0"


def test_a_server_changes_to_caddy_and_back_without_losing_a_request(moving: Stage) -> None:
    node = moving.nodes["web"]
    assert _in_charge(node) == ["nginx"]
    with (
        visitors(node, "app.test", "/", "/?ms=1500") as php,
        visitors(node, "docs.test", "/", over=Secure) as static,
    ):
        for web_server in ("caddy", "nginx"):
            wait_for(lambda seen=php.count: php.count > seen + 2 * VISITORS)
            said = _change(moving, web_server)
            assert "instead of" in said or web_server in said
            assert _in_charge(node) == [web_server]
            wait_for(lambda seen=php.count: php.count > seen + 2 * VISITORS)
            _nothing_is_left(node)
    assert php.count > 50
    assert php.failures == [], php.count
    assert static.failures == []
    moving.in_sync()


def test_when_the_new_one_does_not_come_up_the_old_one_goes_on(moving: Stage) -> None:
    node = moving.nodes["web"]
    broken = "[Service]\nExecStart=\nExecStart=/bin/false\n"
    node.run(f"mkdir -p {DROP_INS} && cat > {DROP_INS}/broken.conf", stdin=broken)
    try:
        with visitors(node, "app.test", "/") as php, visitors(node, "docs.test", "/", over=Secure) as static:
            assert "the web server is not changed" in _change(moving, "caddy", code=1)
            seen = php.count
            wait_for(lambda: php.count > seen + VISITORS)
        assert _in_charge(node) == ["nginx"]
        _nothing_is_left(node)
        assert php.failures == [], php.count
        assert static.failures == []
    finally:
        node.run(f"rm -r {DROP_INS}; systemctl daemon-reload")
    _change(moving, "nginx")
    assert fetch(node, "app.test") == (200, "page")
    moving.in_sync()


@pytest.mark.parametrize("moving", ["el9"], indirect=True)
def test_what_a_kill_of_the_agent_left_has_come_up_after_the_next_apply(moving: Stage) -> None:
    node = moving.nodes["web"]
    with visitors(node, "app.test", "/") as php, visitors(node, "docs.test", "/", over=Secure) as static:
        moving.fleet.change("Server", "web", webServer="caddy")
        moving.fleet.commit()
        running = moving.start("apply", "--yes")
        wait_for(lambda: node.run("systemctl is-active panel-handover", check=False).returncode == 0, 120)
        node.run("systemctl kill -s KILL 'panel-apply-*'")
        moving.finish(running)
        seen = php.count
        wait_for(lambda: php.count > seen + VISITORS)
        moving.apply()
        assert _in_charge(node) == ["caddy"]
        _nothing_is_left(node)
        pages, files = php.count, static.count
        wait_for(lambda: php.count > pages + VISITORS and static.count > files + VISITORS)
    assert php.failures == [], php.count
    assert static.failures == []
    _change(moving, "nginx")
    moving.in_sync()
