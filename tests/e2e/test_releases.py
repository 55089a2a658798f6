"""Sites that are deployed from git repositories, on real nodes of both families; the repositories are served by a real sshd."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Node
from tests.nodes import loopback

from .applications import INDEX, Application, Hosting, hosted, source
from .harness import Stage, fetch, wait_for

FAMILIES = pytest.mark.parametrize("server", ["el", "deb"])


@pytest.fixture(scope="module")
def hosting(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosting]:
    """The daemon's settings know the host key; SSHKey/deploy is generated, and its public half may log in."""
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    with hosted(tmp_path_factory.mktemp("hosting")) as made:
        known = made.folder / "known_hosts"
        settings = {"git": {"knownHosts": str(known)}, "fleets": [{"remotes": [str(stage.fleet.folder)]}]}
        (stage.state / "reconciler.yaml").write_text(yaml.safe_dump(settings))
        stage.fleet.put("SSHKey", "deploy")
        stage.fleet.commit()
        stage.apply()
        made.let_in(stage)
        yield made


def deploy(stage: Stage, code: int | None = 0) -> dict[str, Any]:
    return dict(stage.applied(code=code))


@dataclass
class Visitors:
    """Requests one after the other while something goes on; what they were answered."""

    node: Node
    domain: str
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Visitors:
        self._threads = [threading.Thread(target=self._visit) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _visit(self) -> None:
        while not self._stop.is_set():
            try:
                request = urllib.request.Request(
                    f"http://{self.node.ip}/index.php", headers={"Host": self.domain}
                )
                with urllib.request.urlopen(request, timeout=10) as answer:
                    said = (answer.status, answer.read().decode())
            except OSError as fault:
                said = (getattr(fault, "code", 0), str(fault))
            with self._lock:
                self.seen[said] = self.seen.get(said, 0) + 1
            time.sleep(0.005)


@FAMILIES
def test_a_push_is_built_and_served_and_no_visitor_notices(
    stage: Stage, hosting: Hosting, server: str
) -> None:
    name = f"shop-{server}"
    app = Application(hosting, name)
    node = stage.nodes[server]
    first = app.push(index_php=INDEX, version="one", storage__keep="")
    build = ['php -r \'echo "building with ", PHP_MAJOR_VERSION, "\\n";\'', "id -un > built-by"]
    stage.site(
        name, server, source=source(app, build=build, after=["cp version ../../after"], shared=["storage"])
    )
    stage.fleet.commit()
    deploy(stage)
    user = stage.user(name)
    home = f"/home/{user}"
    assert fetch(node, f"{name}.test") == (200, "one")
    assert node.read(f"{home}/current/built-by").strip() == user
    assert node.read(f"{home}/after") == "one"
    assert node.output(f"stat -c '%U %F' {home}/current {home}/current/index.php").splitlines() == [
        f"{user} symbolic link",
        f"{user} regular file",
    ]
    node.run(f"runuser -u {user} -- sh -c 'echo kept > {home}/current/storage/upload'")
    stage.in_sync()
    record = stage.deployments(f"Site/{name}")[0]
    assert (record["sourceBranch"], record["sourceCommit"]) == ("main", first)
    assert "building with 8\n" in stage.deployment(record["id"])["stdout"]
    assert node.run("grep -rl 'PRIVATE KEY' /home /etc/panel /var/lib/panel", check=False).stdout == ""

    second = app.push(version="two")
    assert stage.planned() == {}  # a plan asks nobody unless it is told to
    plan = stage.run("plan", "--refresh").out
    assert f"source: commit {first[:12]} -> {second[:12]}" in plan
    with Visitors(node, f"{name}.test") as visitors:
        deploy(stage)
        time.sleep(0.5)
    assert {status for status, _ in visitors.seen} == {200}, visitors.seen
    assert set(visitors.seen) == {(200, "one"), (200, "two")}
    assert node.read(f"{home}/current/storage/upload").strip() == "kept"
    stage.in_sync()


@FAMILIES
def test_a_deploy_that_fails_leaves_the_release_before_and_no_visitor_notices(
    stage: Stage, hosting: Hosting, server: str
) -> None:
    name = f"fails-{server}"
    app = Application(hosting, name)
    node = stage.nodes[server]
    app.push(index_php=INDEX, version="one", build="true")
    stage.site(name, server, source=source(app, build=["sh build"], after=["sh -c 'test ! -e bad'"]))
    stage.fleet.commit()
    deploy(stage)
    current = node.output(f"readlink /home/{stage.user(name)}/current")
    broken: tuple[tuple[str, dict[str, str | None]], ...] = (
        ("a build command failed: no such package", {"build": "echo no such package; exit 1"}),
        (
            "is not served: the answer is 500",
            {"build": "true", "index_php": "<?php http_response_code(500);"},
        ),
        ("a command after the switch failed", {"index_php": INDEX, "bad": "x"}),
    )
    with Visitors(node, f"{name}.test") as visitors:
        for message, files in broken:
            app.push(version="two", **files)
            result = deploy(stage, code=1)[f"Site/{name}"]
            assert message in result["message"], result
            assert node.output(f"readlink /home/{stage.user(name)}/current") == current
    assert {status for status, _ in visitors.seen} == {200}, visitors.seen
    assert node.output(f"ls /home/{stage.user(name)}/releases").splitlines() == [current.split("/")[1]]
    assert node.output("systemctl list-units --failed --no-legend 'panel-build*' 'panel-after*'") == ""

    app.push(version="three", bad=None)
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "three")
    stage.in_sync()


@FAMILIES
def test_what_was_in_public_html_is_served_until_there_is_a_release_and_again_without_a_source(
    stage: Stage, hosting: Hosting, server: str
) -> None:
    name = f"old-{server}"
    node = stage.nodes[server]
    stage.site(name, server)
    stage.fleet.commit()
    stage.apply()
    user = stage.user(name)
    node.run(
        f"runuser -u {user} -- sh -c 'cat > /home/{user}/public_html/index.php'", stdin="<?php echo 'old';"
    )
    assert fetch(node, f"{name}.test") == (200, "old")
    app = Application(hosting, name)
    app.push(index_php="<?php http_response_code(503);")
    with Visitors(node, f"{name}.test") as visitors:
        stage.fleet.change("Site", name, source=source(app))
        stage.fleet.commit()
        assert "is not served" in deploy(stage, code=1)[f"Site/{name}"]["message"]
        assert fetch(node, f"{name}.test") == (200, "old")
        app.push(index_php="<?php echo 'new';")
        deploy(stage)
        assert fetch(node, f"{name}.test") == (200, "new")
        stage.fleet.change("Site", name, source=None)
        stage.fleet.commit()
        stage.apply()
    assert {status for status, _ in visitors.seen} == {200}, visitors.seen
    assert fetch(node, f"{name}.test") == (200, "old")
    stage.in_sync()


def test_a_rollback_holds_until_the_branch_moves_and_jobs_run_in_what_is_served(
    stage: Stage, hosting: Hosting
) -> None:
    name, node = "back", stage.nodes["el"]
    app = Application(hosting, name)
    worker = {"name": "beat", "command": "cat version > ~/storage/beat; exec sleep 3600"}
    cron = [{"name": "seen", "schedule": "@daily", "command": "cp version ~/storage/seen"}]
    commits = [app.push(index_php=INDEX, version="one")]
    stage.site(name, "el", source=source(app, build=["echo x >> ../../builds"]), workers=[worker], cron=cron)
    stage.fleet.commit()
    deploy(stage)
    user = stage.user(name)
    for version in ("two", "three"):
        commits.append(app.push(version=version))
        deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "three")
    assert node.read(f"/home/{user}/storage/beat") == "three"
    node.run(f"systemctl start panel-cron-{name}_seen.service", timeout=30)
    assert node.read(f"/home/{user}/storage/seen") == "three"

    told = stage.run("sites", "releases", name, "--output", "json").json
    assert [one["commit"] for one in told["releases"]] == commits[::-1]
    assert told["releases"][0]["state"] == "served"
    stage.run("sites", "rollback", name)
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "two")
    stage.in_sync()  # it holds against the next look
    stage.run("sites", "rollback", name, "--to", commits[0][:10])
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "one")
    assert node.read(f"/home/{user}/builds").count("x") == 3
    assert "Held at" in stage.run("sites", "releases", name).out
    stage.run("sites", "rollback", name, "--to", "ffffff", code=1)

    stage.run("sites", "deploy", name)
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "three")
    stage.run("sites", "rollback", name)
    deploy(stage)
    app.push(version="four")
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "four")
    stage.in_sync()


def test_a_repository_that_cannot_be_read_or_deployed_changes_nothing_and_says_why(
    stage: Stage, hosting: Hosting
) -> None:
    name, node = "away", stage.nodes["deb"]
    app = Application(hosting, name)
    stage.site(name, "deb", source=source(app))
    stage.fleet.commit()
    stage.apply(code=None)
    assert "the repository is empty" in stage.run("sites", "releases", name).out
    app.push(index_php=INDEX, version="one")
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "one")
    (app.copy / "out").symlink_to("/etc/passwd")
    app.push(version="two")
    stage.in_sync()
    assert "the link out leads out of the release" in stage.run("sites", "releases", name).out
    (app.copy / "out").unlink()
    Path(f"{app.copy}.git").rename(f"{app.copy}.gone")
    stage.in_sync()
    Path(f"{app.copy}.gone").rename(f"{app.copy}.git")
    app.push(version="three")
    deploy(stage)
    assert fetch(node, f"{name}.test") == (200, "three")


def test_the_daemon_deploys_what_is_pushed_to_the_application(stage: Stage, hosting: Hosting) -> None:
    name, node = "pushed", stage.nodes["deb"]
    app = Application(hosting, name)
    app.push(index_php=INDEX, version="one")
    settings = yaml.safe_load((stage.state / "reconciler.yaml").read_text())
    settings["fleets"][0] |= {"poll": "5s"}
    (stage.state / "reconciler.yaml").write_text(yaml.safe_dump(settings))
    stage.site(name, "deb", source=source(app))
    stage.fleet.commit()
    daemon = stage.start("serve")
    try:
        wait_for(
            lambda: stage.row("sites", name=name) and fetch(node, f"{name}.test") == (200, "one"), 180, 1
        )
        app.push(version="two")
        wait_for(lambda: fetch(node, f"{name}.test") == (200, "two"), 60, 0.5)
        stage.run("sites", "rollback", name)
        wait_for(lambda: fetch(node, f"{name}.test") == (200, "one"), 60, 0.5)
    finally:
        daemon.terminate()
        stage.finish(daemon, ("serve",), 60)
