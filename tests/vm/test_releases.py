"""Releases under an enforcing kernel: everything that a deploy does is allowed, and what it makes has the site's level."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.applications import INDEX, Application, Hosting, hosted, source
from tests.nodes import loopback
from tests.vm import denials
from tests.vm.world import PROVISIONED, World

BUILD = "php -r 'echo 6*7;' > built; mkdir -p vendor/bin; cp version storage/built; grep -ao 'system_u[a-z0-9_:,]*' /proc/self/attr/current > who"


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[Hosting]:
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    with hosted(tmp_path) as made:
        yield made


def test_a_deploy_is_allowed_and_stays_at_the_level_of_its_site(built: World, hosting: Hosting) -> None:
    machine, stage, site = built.machine, built.stage, built.sites["one"]
    machine.restore(PROVISIONED)
    settings = stage.settings.read_text()
    stage.settings.write_text(
        settings.replace("git: {", f"git: {{knownHosts: {hosting.folder / 'known_hosts'}, ")
    )
    app = Application(hosting, "app")
    app.push(index_php=INDEX, version="one", storage__keep="", build=BUILD)
    marked = denials.mark(machine)
    try:
        with stage.served(60):
            stage.fleet.put("SSHKey", "deploy")
            stage.push("Have a deploy key")
            stage.reach()
            hosting.let_in(stage)
            more = source(
                app, build=["sh build"], after=["cp version ../../storage/after"], shared=["storage"]
            )
            stage.fleet.change("Site", "one", source=more)
            stage.push("Deploy site one")
            stage.wait(lambda: stage.get("one") == (200, "one"), 600)
            home = site.home
            contexts = machine.output(
                f"find {home}/releases {home}/shared {home}/current -printf '%Z\\n' | sort -u"
            )
            assert {line.split(":", 3)[3] for line in contexts.splitlines()} == {site.level}, contexts
            assert machine.output(f"cat {home}/current/built") == "42"
            assert machine.output(f"cat {home}/current/who").endswith(f":laravel_job_t:{site.level}")
            assert machine.output(f"cat {home}/storage/after {home}/shared/storage/built").split() == [
                "one",
                "one",
            ]
            app.push(version="two", index_php="<?php http_response_code(500);")
            stage.wait(lambda: "is not served: the answer is 500" in stage.says("Site", "one", "Ready"), 600)
            assert stage.get("one") == (200, "one")
            app.push(version="three", index_php=INDEX)
            stage.wait(lambda: stage.get("one") == (200, "three"), 600)
            assert denials.since(machine, marked) == ()
    finally:
        stage.settings.write_text(settings)
