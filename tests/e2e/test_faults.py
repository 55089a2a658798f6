"""What goes wrong around an apply: it says what, where and what to do; the rest goes on; nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from lab import Node, faults
from reconciler.app import applying
from reconciler.app.planning import Wish
from reconciler.app.settings import Settings
from reconciler.blueprint import render, templates
from reconciler.blueprint.templates import Templates
from reconciler.converge.progress import Silent
from reconciler.store import open_state

from .harness import Stage, fetch, wait_for

SLOW = '#!/bin/sh\nsleep 5\nexec /usr/sbin/useradd.real "$@"\n'


@contextmanager
def slow_users(node: Node) -> Iterator[None]:
    """Making a user takes 5 seconds, so that an apply has a middle to break off in."""
    node.run("mv /usr/sbin/useradd /usr/sbin/useradd.real")
    node.run("cat > /usr/sbin/useradd && chmod 755 /usr/sbin/useradd", stdin=SLOW)
    try:
        yield
    finally:
        if node.running:
            node.run("mv -f /usr/sbin/useradd.real /usr/sbin/useradd")


def in_the_middle(node: Node) -> None:
    """Wait until the node is at work on the slow step."""
    wait_for(lambda: node.run("pgrep -fx 'sleep 5'", check=False).returncode == 0)


def nothing_runs(stage: Stage) -> None:
    assert stage.count("deployments", "status IN ('pending', 'running')") == 0


@pytest.fixture(autouse=True)
def _clean(stage: Stage) -> Iterator[None]:
    """Whatever a test breaks, it leaves the fleet in sync."""
    yield
    stage.in_sync()
    nothing_runs(stage)


# -- the node cannot be worked with ---------------------------------------------------------------------


@contextmanager
def key_refused(node: Node) -> Iterator[None]:
    keys = node.output("getent passwd panel | cut -d: -f6") + "/.ssh/authorized_keys"
    node.run(f"mv {keys} /root/kept")
    try:
        yield
    finally:
        node.run(f"mv /root/kept {keys}")


@contextmanager
def other_host_key(node: Node) -> Iterator[None]:
    place = "/etc/ssh/ssh_host_ed25519_key"
    node.run(
        f"mkdir /root/old && mv {place} {place}.pub /root/old && ssh-keygen -q -t ed25519 -N '' -f {place}"
    )
    node.run("systemctl restart sshd || systemctl restart ssh")
    node.wait_ssh()
    try:
        yield
    finally:
        node.run(
            "mv -f /root/old/* /etc/ssh/ && rmdir /root/old && (systemctl restart sshd || systemctl restart ssh)"
        )
        node.wait_ssh()


Fault = Callable[[Node], AbstractContextManager[None]]
REFUSALS: dict[str, tuple[Fault, str, str]] = {
    "refused-key": (key_refused, "refused the key of user panel", "enrol the server again"),
    "other-host-key": (other_host_key, "shows the host key SHA256:", "installed anew"),
    "down": (faults.refused_port, "cannot connect to", "check the address"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_node_that_cannot_be_worked_with_stops_only_its_own(stage: Stage, what: str) -> None:
    fault, said, hint = REFUSALS[what]
    near, far = f"near-{what}", f"far-{what}"
    stage.site(near, "el")
    stage.site(far, "deb")
    stage.fleet.commit()
    with fault(stage.nodes["el"]):
        done = stage.apply(code=1)
        assert f"Error: Site/{near} failed: el: " in done.out
        assert said in done.out
        assert hint in done.out
        assert "1 added" in done.out
        assert "1 failed" in done.out
        status = stage.status()
        assert status[f"Site/{near}"]["state"] == "error"
        assert status[f"Site/{far}"]["state"] == "active"
        assert stage.deployments(f"Site/{near}")[0]["status"] == "failed"
        assert stage.row(
            "server_logs", level="error", message=str(stage.deployments(f"Site/{near}")[0]["reason"])
        )
        nothing_runs(stage)
    assert fetch(stage.nodes["deb"], f"{far}.test")[0] == 200
    stage.apply()
    assert fetch(stage.nodes["el"], f"{near}.test")[0] == 200
    assert stage.status()[f"Site/{near}"]["state"] == "active"


def test_a_server_whose_node_is_gone_for_good_is_given_up(stage: Stage) -> None:
    node = stage.nodes["deb"]
    stage.site("stranded", "deb")
    stage.fleet.commit()
    stage.apply()
    kept = {path: path.read_bytes() for path in stage.fleet.folder.glob("*.yaml")}
    with faults.refused_port(node):
        for address, found in stage.status().items():
            if found["server"] == "deb":
                stage.fleet.drop(*address.split("/"))
        stage.fleet.commit()
        approved = ("--approve", "server-with-sites", "--approve", "mass-deletion")
        done = stage.apply(*approved, code=1)
        assert (
            "Error: Server/deb skipped: Server/deb is kept until what is on it could be removed" in done.out
        )
        assert "reconciler servers forget deb" in done.out
        said = stage.run("servers", "forget", "deb", "--yes")
        assert "Site/stranded" in said.out
        assert "Its node was not touched." in said.out
        stage.in_sync()
    assert fetch(node, "stranded.test")[0] == 200

    for path, content in kept.items():
        path.write_bytes(content)
    stage.fleet.drop("Site", "stranded")
    stage.enroll("deb", node)
    stage.apply()


def test_a_node_of_another_system_is_not_touched(stage: Stage) -> None:
    stage.fleet.change("Server", "el", os="rocky_9")
    stage.site("stranger", "el")
    stage.fleet.commit()
    done = stage.apply(code=1)
    assert "the manifest says rocky 9, but the node runs almalinux 9" in done.out
    assert "correct spec.os of Server/el" in done.out
    assert stage.nodes["el"].run("test -e /etc/panel/fpm/stranger.conf", check=False).returncode == 1
    stage.fleet.change("Server", "el", os="alma_9")
    stage.fleet.commit()
    stage.apply()


def test_a_package_that_cannot_be_installed_fails_its_server_and_holds_what_needs_it(stage: Stage) -> None:
    stage.fleet.change("Server", "el", software={"php": ["8.1", "8.2", "8.4"]})
    stage.site("waits", "el")
    stage.site("goes", "deb")
    stage.fleet.commit()
    done = stage.apply(code=1)
    assert "Error: Server/el failed: el: " in done.out
    assert "php81" in done.out
    assert "Error: Site/waits skipped: el: upstream_failed: Server/el" in done.out
    assert stage.status()["Site/goes"]["state"] == "active"
    assert stage.row("software_installations", version="8.1", status="failed")
    assert "php81" in stage.deployment(stage.deployments("Server/el")[0]["id"])["stderr"]
    stage.fleet.change("Server", "el", software={"php": ["8.2", "8.4"]})
    stage.fleet.commit()
    stage.apply()
    assert fetch(stage.nodes["el"], "waits.test")[0] == 200


def test_a_full_disk_is_named_and_nothing_is_left_half_done(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("cramped", "el")
    stage.fleet.commit()
    with faults.full_disk(node, "/etc/panel/fpm"):
        done = stage.apply("--no-refresh", code=1)
        assert "no space left on the file system" in done.out
        user = stage.user("cramped")
        assert node.run(f"id {user}", check=False).returncode == 1, "the finished steps are rolled back"
    stage.apply()
    assert fetch(node, "cramped.test")[0] == 200


def test_a_full_disk_under_the_agent_is_named(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("journaled", "el")
    stage.fleet.commit()
    with faults.full_disk(node, "/var/lib/panel"):
        done = stage.apply("--no-refresh", code=1)
        assert "no space left on the file system" in done.out
        nothing_runs(stage)
    stage.apply()
    assert fetch(node, "journaled.test")[0] == 200


def test_a_virtual_host_that_nginx_rejects_fails_alone(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process, because the program has no way to be given bad templates."""
    shipped = templates.shipped()

    class Bad(Templates):
        def __init__(self) -> None:
            pass

        def render(self, name: str, values: object) -> str:
            text = shipped.render(name, values)  # type: ignore[arg-type]
            bad = name == "nginx/generic.conf.j2" and "server_name rejected.test" in text
            return text + "nonsense on;\n" if bad else text

    for name in ("accepted", "rejected"):
        stage.site(name, "el")
    stage.fleet.commit()
    demand = applying.Demand(wish=Wish(refresh=True))
    settings = Settings(state=stage.state, fleet=stage.fleet.folder)
    with monkeypatch.context() as patched:
        patched.setattr(render, "shipped", Bad)
        with open_state(stage.state) as store:
            applied = applying.apply(settings, store, demand, Silent())
    results = {str(result.key): result for result in applied.results}
    assert results["Site/accepted"].state == "succeeded"
    assert results["Site/rejected"].state == "failed"
    assert "unknown directive" in results["Site/rejected"].message
    node = stage.nodes["el"]
    assert fetch(node, "accepted.test")[0] == 200
    assert node.run("nginx -t", check=False).returncode == 0
    assert node.run("test -e /etc/nginx/conf.d/panel-rejected.conf", check=False).returncode == 1
    assert "nonsense" in stage.deployment(stage.deployments("Site/rejected")[0]["id"])["stderr"]
    stage.apply()
    assert fetch(node, "rejected.test")[0] == 200


# -- the apply is broken off ----------------------------------------------------------------------------


def test_a_cut_connection_is_taken_up_again(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("resumed", "el")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes")
        in_the_middle(node)
        faults.kill_ssh_sessions(node)
        done = stage.finish(running)
    assert done.code == 0, done.text
    lines = stage.deployment(stage.deployments("Site/resumed")[0]["id"])["stdout"].splitlines()
    assert sum("create user:" in line for line in lines) == 1
    assert fetch(node, "resumed.test")[0] == 200


def test_a_killed_program_is_settled_by_the_next(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("survivor", "el")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes")
        in_the_middle(node)
        running.kill()
        running.communicate()
        assert stage.count("deployments", "status IN ('pending', 'running')") == 1
        done = stage.apply()
    assert "el: settling an unfinished run" in done.out
    first = stage.deployment(stage.deployments("Site/survivor")[1]["id"])
    assert first["status"] == "success"
    assert first["stdout"].count("create user:") == 1
    assert "settled after an interruption" in first["stdout"]
    second = stage.deployment(stage.deployments("Site/survivor")[0]["id"])
    assert "create" not in second["stdout"], "what the node did is not done again"
    assert fetch(node, "survivor.test")[0] == 200


def test_ctrl_c_parks_an_apply_and_the_next_one_settles_it(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("parked", "el")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes")
        in_the_middle(node)
        running.send_signal(signal.SIGINT)
        done = stage.finish(running, timeout=120)
        assert done.code == 130
        assert "the next apply finds out and goes on" in done.err
        stage.apply()
    assert fetch(node, "parked.test")[0] == 200


def test_a_second_apply_is_told_to_wait(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("first", "el")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes")
        in_the_middle(node)
        second = stage.apply(code=5)
        assert "another apply is running" in second.err
        assert stage.finish(running).code == 0


def test_a_power_cut_in_the_middle_loses_nothing(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("blackout", "el")
    stage.site("lit", "deb")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes")
        in_the_middle(node)
        node.crash()
        node.start()
        node.wait_ssh()
        done = stage.finish(running, timeout=150)
        assert done.code == 1, done.text
        assert "Error: Site/blackout failed: el: " in done.out
        assert "interrupted" in done.out
        assert stage.status()["Site/lit"]["state"] == "active"
        nothing_runs(stage)
    node.wait_active("nginx.service", "mariadb.service")
    stage.apply()
    assert fetch(node, "blackout.test")[0] == 200


def test_a_node_that_does_not_answer_holds_an_apply_no_longer_than_asked(stage: Stage) -> None:
    node = stage.nodes["el"]
    stage.site("patient", "el")
    stage.fleet.commit()
    with slow_users(node):
        running = stage.start("apply", "--yes", "--timeout", "8")
        in_the_middle(node)
        with faults.frozen(node):
            begun = time.monotonic()
            done = stage.finish(running, timeout=60)
            assert time.monotonic() - begun < 40
    assert done.code == 1
    assert "did not answer 'apply' within" in done.out or "was not seen in time" in done.out
    stage.apply()
    assert fetch(node, "patient.test")[0] == 200


# -- plans and repositories -----------------------------------------------------------------------------


def test_a_saved_plan_is_applied_exactly_or_not_at_all(stage: Stage, tmp_path: Path) -> None:
    stage.site("planned", "el")
    stage.fleet.commit()
    file = str(tmp_path / "plan.json")
    stage.run("plan", "-o", file)
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600
    stage.site("later", "el")
    stage.fleet.commit()

    done = stage.applied(file)
    assert list(done) == ["Site/planned"], "a newer commit is not part of it"
    stale = stage.apply(file, code=4)
    assert "Saved plan is stale" in stale.err
    assert "Make the plan again" in stale.err
    assert "Site/later" not in stage.status()
    stage.apply()


def test_a_broken_manifest_holds_up_nothing_but_itself(stage: Stage) -> None:
    stage.site("broken", "el")
    stage.site("whole", "el")
    stage.fleet.commit()
    stage.apply()
    stage.fleet.change("Site", "broken", phpVersion="5.3", domain="elsewhere.test")
    stage.fleet.change("Site", "whole", php={"memoryLimit": "77M"})
    stage.fleet.commit()
    done = stage.apply(code=1)
    assert "site-broken.yaml:" in done.text
    assert "Site/whole: Modification complete" in done.out
    assert stage.status()["Site/broken"]["state"] == "active"
    assert fetch(stage.nodes["el"], "broken.test")[0] == 200
    assert "77M" in stage.nodes["el"].read("/etc/panel/fpm/whole.conf")
    again = stage.apply(code=1)
    assert "site-broken.yaml:" in again.text
    stage.fleet.change("Site", "broken", phpVersion="8.2", domain="broken.test")
    stage.fleet.commit()


def test_an_empty_commit_deletes_nothing(stage: Stage) -> None:
    before = stage.status().keys()
    kept = {path: path.read_bytes() for path in stage.fleet.folder.glob("*.yaml")}
    for path in kept:
        path.unlink()
    stage.fleet.commit()
    done = stage.apply(code=3)
    assert "empty-source" in done.err
    assert "Nothing is deleted" in done.err
    assert stage.status().keys() == before
    for path, content in kept.items():
        path.write_bytes(content)
    stage.fleet.commit()
