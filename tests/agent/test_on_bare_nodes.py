"""Packages, accounts and units on freshly installed servers of both families, and what may go wrong meanwhile."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest

from lab import Node

from .building import bundle, directory, file, gone, package, section, symlink, unit, user
from .on_nodes import PROGRAM, family, install, manager, messages, talk
from .talking import Refused, ulid


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    for name in ("node", "el_node"):
        if name in request.fixturenames:
            install(request.getfixturevalue(name))


def wanted(node: Node, *steps: dict[str, Any]) -> dict[str, Any]:
    return bundle(section("Server/web1", *steps), package_manager=manager(node))


def test_packages_are_one_transaction_and_leave_by_another(node: Node) -> None:
    redis = {"el": "redis", "debian": "redis-server"}[family(node)]
    both = wanted(node, package("nginx"), package(redis))
    with talk(node) as agent:
        assert agent.ask("hello", protocol=1)["facts"]["package_manager"] == manager(node)
        outcome = agent.apply(1, both)
        assert outcome["state"] == "succeeded", messages(outcome)
        assert outcome["sections"]["Server/web1"]["changed"] == 2
        assert [kind for kind, _ in agent.types("step_started", "step_done")] == ["step_started"] * 2 + [
            "step_done"
        ] * 2
        assert any(event["type"] == "log" and "nginx" in event["text"] for event in agent.events)
        active = node.run("systemctl is-active nginx", check=False).stdout.strip()
        assert active == {"el": "inactive", "debian": "active"}[family(node)]
        assert agent.apply(2, both)["sections"]["Server/web1"]["state"] == "unchanged"
        removed = wanted(node, package("nginx"), package(redis, "absent"))
        assert agent.apply(3, removed)["sections"]["Server/web1"]["changed"] == 1
        assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]
    query = {
        "el": f"rpm -q {redis}",
        "debian": f"dpkg-query -W -f '${{db:Status-Status}}' {redis} | grep -x installed",
    }
    assert node.run(query[family(node)], check=False).returncode != 0


def test_an_unknown_package_fails_its_section_alone_and_is_named(node: Node) -> None:
    two = bundle(
        section("Server/web1", directory("/etc/panel"), package("no-such-package")),
        section("Site/shop", file("/home/marker", b"x"), needs=("Server/web1",)),
        section("Site/other", file("/home/other", b"x")),
        package_manager=manager(node),
    )
    with talk(node) as agent:
        outcome = agent.apply(1, two, b"x")
    assert outcome["state"] == "failed"
    states = {name: part["state"] for name, part in outcome["sections"].items()}
    assert states == {"Server/web1": "failed", "Site/shop": "skipped", "Site/other": "succeeded"}
    assert "no-such-package" in outcome["sections"]["Server/web1"]["message"]
    assert outcome["sections"]["Site/shop"]["message"] == "upstream_failed: Server/web1"
    assert node.run("test -e /etc/panel", check=False).returncode == 1


def test_a_release_package_brings_its_repository(el_node: Node) -> None:
    epel = {"type": "repository", "key": "repository:epel-release", "package": "epel-release"}
    with talk(el_node) as agent:
        outcome = agent.apply(1, wanted(el_node, epel, package("caddy")))
        assert outcome["state"] == "succeeded", messages(outcome)
        assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]
    assert "epel" in el_node.output("dnf -q repolist")


def test_a_package_lock_held_for_a_while_is_waited_for(node: Node) -> None:
    path = {"el": "/var/lib/rpm/.rpm.lock", "debian": "/var/lib/dpkg/lock-frontend"}[family(node)]
    hold = f"import fcntl, time; f = open({path!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(6)"
    node.run(f'nohup python3 -c "{hold}" >/run/held 2>&1 & until [ -s /run/held ]; do sleep 0.05; done')
    began = time.monotonic()
    with talk(node) as agent:
        outcome = agent.apply(1, wanted(node, package("nginx")))
    assert outcome["state"] == "succeeded", messages(outcome)
    assert time.monotonic() - began > 3


def test_a_cancel_ends_the_wait_for_a_package_lock(node: Node) -> None:
    """The real apt-get gives up at once and is asked again, the real rpm waits in the kernel."""
    path = {"el": "/var/lib/rpm/.rpm.lock", "debian": "/var/lib/dpkg/lock-frontend"}[family(node)]
    hold = f"import fcntl, time; f = open({path!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(600)"
    node.run(f'nohup python3 -c "{hold}" >/run/held 2>&1 & until [ -s /run/held ]; do sleep 0.05; done')
    with talk(node) as agent, talk(node) as other:
        digest = agent.hand_over(wanted(node, package("nginx"), directory("/etc/panel")))
        agent.request("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
        time.sleep(3)
        assert other.ask("cancel", deployment=ulid(1), fence=1)["state"] == "stopping"
        outcome = agent.answer()
        assert (outcome["state"], outcome["cancelled"]) == ("failed", True)
        section = outcome["sections"]["Server/web1"]
        assert (section["message"], section["kept"]) == ("cancelled", [])
        node.run("pkill -f fcntl.[l]ockf")
        assert agent.apply(2, wanted(node, package("nginx")))["state"] == "succeeded"


def test_a_cancel_never_ends_a_package_transaction(node: Node) -> None:
    """Wherever in the transaction it comes: the package is there and whole, or was never begun."""
    redis = {"el": "redis", "debian": "redis-server"}[family(node)]
    whole = {
        "el": f"rpm -V --noconfig {redis} && dnf -q check",
        "debian": 'test -z "$(dpkg --audit)" && apt-get -q check',
    }
    for number, delay in enumerate((0.2, 0.7, 1.4), 1):
        with talk(node) as agent, talk(node) as other:
            digest = agent.hand_over(wanted(node, package(redis)))
            agent.request("apply", deployment=ulid(number), digest=digest, sections=None, fence=1)
            time.sleep(delay)
            other.ask("cancel", deployment=ulid(number), fence=1)
            outcome = agent.answer()
            changed = outcome["sections"]["Server/web1"]["changed"]
            if changed or agent.apply(10 + number, wanted(node, package(redis)))["state"] == "succeeded":
                node.run(whole[family(node)])
            removed = agent.apply(20 + number, wanted(node, package(redis, "absent")))
            assert removed["state"] == "succeeded", messages(removed)


def test_a_unit_that_is_cancelled_while_it_starts_is_as_it_was(node: Node) -> None:
    """Its job is taken out of systemd's queue, also when it has not begun: here it waits for another unit."""
    first = b"[Service]\nType=oneshot\nExecStart=/bin/sleep 600\n"
    second = b"[Unit]\nRequires=panel-first.service\nAfter=panel-first.service\n" + SERVICE
    steps = [
        directory("/etc/panel"),
        file("/etc/panel/x.conf", b"good"),
        file("/etc/systemd/system/panel-first.service", first),
        file("/etc/systemd/system/panel-second.service", second),
        unit("panel-second.service", active=True, enabled=True),
    ]
    with talk(node) as agent, talk(node) as other:
        digest = agent.hand_over(wanted(node, *steps), first, second, b"good")
        agent.request("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
        node.run("until systemctl list-jobs | grep -q panel-second; do sleep 0.1; done")
        told = other.ask("units", names=["panel-first.service", "panel-second.service"])["units"]
        assert [(one["active"], one["sub"]) for one in told.values()] == [
            ("activating", "start"),
            ("inactive", "dead"),
        ]
        assert other.ask("cancel", deployment=ulid(1), fence=1)["state"] == "stopping"
        outcome = agent.answer()
        assert outcome["sections"]["Server/web1"]["message"] == "cancelled", messages(outcome)
        assert outcome["sections"]["Server/web1"]["kept"] == []
    assert "panel-second" not in node.output("systemctl list-jobs")
    assert node.run("systemctl is-active panel-second.service", check=False).stdout.strip() == "inactive"
    assert node.run("test -e /etc/systemd/system/panel-second.service", check=False).returncode == 1


def test_a_user_comes_without_password_and_goes_into_the_archive(node: Node) -> None:
    node.run("groupadd extra; sed -i 's/^HOME_MODE.*//; s/^CREATE_HOME.*/CREATE_HOME yes/' /etc/login.defs")
    steps = [
        user("web1", home_group="www", groups=["extra"], comment="site shop"),
        directory("/home/web1/data"),
    ]
    made = wanted(node, {"type": "group", "key": "group:www", "name": "www", "system": True}, *steps)
    made["sections"][0]["steps"][2] |= {"owner": "web1", "group": "web1"}
    with talk(node) as agent:
        outcome = agent.apply(1, made)
        assert outcome["state"] == "succeeded", messages(outcome)
        assert node.output("stat -c '%a %U %G' /home/web1 /home/web1/data") == "710 web1 www\n755 web1 web1"
        assert node.output("getent passwd web1").endswith(":site shop:/home/web1:/bin/sh")
        assert node.output("id -Gn web1") == "web1 extra"
        assert node.output("getent shadow web1").split(":")[1][0] in "!*"
        assert node.output("ls -A /home/web1") == "data"

        digest = agent.ask("hello", protocol=1)["bundle"]
        node.run("usermod -s /bin/bash web1; chmod 777 /home/web1")
        drift = agent.ask("check", digest=digest)["differences"]
        assert [change["field"] for change in drift[0]["changes"]] == ["shell", "home_mode"]
        assert agent.apply(2, made)["sections"]["Server/web1"]["changed"] == 1

        node.run(
            "runuser -u web1 -- sh -c 'echo kept > /home/web1/data/note; nohup sleep 1000 >/dev/null 2>&1 &'"
        )
        outcome = agent.apply(3, wanted(node, gone(steps[0])))
        assert outcome["state"] == "succeeded", messages(outcome)
        assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]
    assert node.run("pgrep -x sleep || id web1 || test -e /home/web1", check=False).returncode != 0
    archive = f"/var/lib/panel/archive/web1-{ulid(3)}.tar.gz"
    assert node.output(f"stat -c '%a %U' {archive}") == "600 root"
    assert node.output(f"tar -xzOf {archive} web1/data/note") == "kept"


def test_an_account_of_the_system_is_left_alone(node: Node) -> None:
    with talk(node) as agent:
        outcome = agent.apply(1, wanted(node, gone(user("mail"))))
        assert "account of the system" in messages(outcome)
    assert node.run("id mail").returncode == 0


def test_the_host_name_is_set(node: Node) -> None:
    with talk(node) as agent:
        name = {"type": "hostname", "key": "hostname:node", "name": "web1.example.test"}
        assert agent.apply(1, wanted(node, name))["state"] == "succeeded"
    assert node.output("hostnamectl --static") == "web1.example.test"


SERVICE = b"[Service]\nExecStart=/bin/sh -c 'cat /etc/panel/x.conf; exec sleep 1000'\nExecReload=/bin/grep -q good /etc/panel/x.conf\n[Install]\nWantedBy=multi-user.target\n"


def service(conf: bytes, *, body: bytes = SERVICE, name: str = "panel-x.service") -> list[dict[str, Any]]:
    return [
        directory("/etc/panel"),
        file("/etc/panel/x.conf", conf),
        file(f"/etc/systemd/system/{name}", body),
        unit(
            name,
            active=True,
            enabled=True,
            reload_on=["file:/etc/panel/*"],
            restart_on=[f"file:/etc/systemd/system/{name}"],
        ),
    ]


def test_units_are_started_reloaded_and_restarted_once(node: Node) -> None:
    with talk(node) as agent:
        outcome = agent.apply(1, wanted(node, *service(b"good\n")), b"good\n", SERVICE)
        assert (outcome["state"], outcome["reloaded"]) == ("succeeded", []), messages(outcome)
        assert node.output("systemctl is-active panel-x; systemctl is-enabled panel-x") == "active\nenabled"
        pid = node.output("systemctl show -P MainPID panel-x")
        outcome = agent.apply(2, wanted(node, *service(b"good too\n")), b"good too\n")
        assert (outcome["state"], outcome["reloaded"]) == ("succeeded", ["panel-x.service"])
        assert node.output("systemctl show -P MainPID panel-x") == pid
        other = SERVICE.replace(b"1000", b"1001")
        outcome = agent.apply(3, wanted(node, *service(b"good\n", body=other)), b"good\n", other)
        assert agent.types("reload", "restart") == [("restart", "panel-x.service")]
        assert node.output("systemctl show -P MainPID panel-x") != pid
        digest = agent.ask("hello", protocol=1)["bundle"]
        node.run("systemctl stop panel-x; systemctl disable panel-x")
        drift = agent.ask("check", digest=digest)["differences"]
        assert [change["field"] for change in drift[0]["changes"]] == ["active", "enabled"]
        removed = wanted(node, *[gone(step) for step in reversed(service(b"good\n"))])
        assert agent.apply(4, wanted(node, *service(b"good\n", body=other)))["state"] == "succeeded"
        assert agent.apply(5, removed)["state"] == "succeeded"
    assert node.run("systemctl is-active panel-x || test -e /etc/panel", check=False).returncode != 0


def test_a_reload_that_fails_puts_its_section_back(node: Node) -> None:
    with talk(node) as agent:
        assert agent.apply(1, wanted(node, *service(b"good\n")), b"good\n", SERVICE)["state"] == "succeeded"
        outcome = agent.apply(2, wanted(node, *service(b"evil\n")), b"evil\n")
        assert outcome["state"] == "failed"
        assert "reload panel-x.service" in messages(outcome)
        reloads = [event["ok"] for event in agent.events if event["type"] == "reload"]
        assert reloads == [False, True]
    assert node.output("cat /etc/panel/x.conf; systemctl is-active panel-x") == "good\nactive"


def test_a_unit_that_does_not_start_fails_with_its_last_words(node: Node) -> None:
    broken = b"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the port is taken >&2; exit 3'\n"
    with talk(node) as agent:
        outcome = agent.apply(1, wanted(node, *service(b"x", body=broken)), b"x", broken)
    assert outcome["state"] == "failed"
    assert "the port is taken" in messages(outcome)
    assert (
        node.run("test -e /etc/panel || test -e /etc/systemd/system/panel-x.service", check=False).returncode
        == 1
    )


COMPARE = f"""
import sys
sys.path.insert(0, {PROGRAM!r})
from panel_agent import observe, systemd_bus
wanted = ["LoadState", "ActiveState", "SubState", "UnitFileState"]
names = ["-.mount", "no-such.service", "system.slice", "getty@tty1.service", *sys.argv[1:]] * 20
told = {{name: observe.UnitState(*values) for name, values in zip(names, systemd_bus.properties(names, wanted))}}
shown = observe._show_by_program(list(dict.fromkeys(names)), wanted)
print(told == shown, shown["no-such.service"].load, shown[sys.argv[1]].active, shown[sys.argv[1]].file_state)
"""


def test_systemd_says_over_its_socket_what_systemctl_says(node: Node) -> None:
    unit_name = {"el": "sshd.service", "debian": "ssh.service"}[family(node)]
    said = node.output(f"python3 -I -S -c {shlex.quote(COMPARE)} {unit_name}")
    assert said == "True not-found active enabled"


def test_one_of_many_units_does_not_start_and_the_others_run(node: Node) -> None:
    broken = b"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the port is taken >&2; exit 3'\n"
    made = [
        section(f"Site/{name}", *service(b"good\n", body=body, name=f"panel-{name}.service")[2:])
        for name, body in (("a", SERVICE), ("b", broken), ("c", SERVICE))
    ]
    base = section("Server/web1", *service(b"good\n")[:2])
    with talk(node) as agent:
        outcome = agent.apply(
            1, bundle(base, *made, package_manager=manager(node)), b"good\n", SERVICE, broken
        )
        states = {name: part["state"] for name, part in outcome["sections"].items()}
        assert states == {
            "Server/web1": "succeeded",
            "Site/a": "succeeded",
            "Site/b": "failed",
            "Site/c": "succeeded",
        }
        assert "the port is taken" in messages(outcome)
    assert node.output("systemctl is-active panel-a panel-c") == "active\nactive"
    assert node.output("systemctl show -P LoadState panel-b") == "not-found"


def test_a_power_cut_in_a_package_transaction_is_settled_by_applying_again(node: Node) -> None:
    names = {
        "el": ["nginx", "mariadb-server", "postgresql-server"],
        "debian": ["nginx", "mariadb-server", "postgresql-15"],
    }[family(node)]
    every = wanted(node, directory("/etc/panel"), *[package(name) for name in names])
    with talk(node) as agent:
        digest = agent.hand_over(every)
        agent.request("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
        words = ("Installing", "Unpacking")
        while not any(word in agent.receive().get("event", {}).get("text", "") for word in words):
            pass
        time.sleep(0.3)
        node.crash()
    node.start()
    node.wait_ssh()
    with talk(node) as agent:
        outcome = agent.ask("status", deployment=ulid(1))
        assert outcome["state"] == "interrupted"
        assert outcome["doubt"] in [f"package:{name}" for name in names]
        outcome = agent.apply(2, every)
        assert outcome["state"] == "succeeded", messages(outcome)
        assert agent.ask("check", digest=digest)["in_sync"]


def test_a_killed_session_does_not_stop_an_apply(node: Node) -> None:
    slow = b"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\n"
    steps = [*service(b"x", body=slow), file("/etc/panel/last", b"last")]
    with talk(node) as agent:
        digest = agent.hand_over(wanted(node, *steps), b"x", slow, b"last")
        agent.request("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
        while agent.receive()["event"].get("key") != "unit:panel-x.service":
            pass
        node.run("pkill -KILL -f '[s]shd: root@notty'")
        agent.process.wait(20)
    with talk(node) as agent:
        assert agent.ask("hello", protocol=1)["running"] == ulid(1)
        with pytest.raises(Refused, match="busy"):
            agent.ask("apply", deployment=ulid(2), digest=digest, sections=None, fence=1)
        node.run("touch /run/go")
        outcome = agent.ask("status", deployment=ulid(1), **{"from": 0})
        assert outcome["state"] == "succeeded", messages(outcome)
        numbers = [event["n"] for event in agent.events]
        assert numbers == list(range(1, len(numbers) + 1))
    assert node.output("cat /etc/panel/last") == "last"
    assert node.run("systemctl is-active 'panel-apply-*'", check=False).stdout.strip() in ("", "inactive")


def test_full_read_only_and_immutable_disks_are_named_with_the_path(node: Node) -> None:
    body = b"x" * 300_000
    node.run("mkdir -p /etc/panel/full /etc/panel/ro /etc/panel/fixed")
    node.run("mount -t tmpfs -o size=64k none /etc/panel/full; mount -t tmpfs -o ro none /etc/panel/ro")
    node.run("echo old > /etc/panel/fixed/x; chattr +i /etc/panel/fixed/x")
    three = bundle(
        section("Site/a", file("/etc/panel/a", body), file("/etc/panel/full/x", body)),
        section("Site/b", file("/etc/panel/ro/x", body)),
        section("Site/c", file("/etc/panel/fixed/x", body)),
        section("Site/d", file("/etc/panel/d", body)),
        package_manager=manager(node),
    )
    with talk(node) as agent:
        outcome = agent.apply(1, three, body)
        said = {name: part["message"] for name, part in outcome["sections"].items()}
        assert said["Site/a"] == "cannot write /etc/panel/full/x: no space left on the file system"
        assert said["Site/b"] == "cannot write /etc/panel/ro/x: the file system is read-only"
        assert (
            "cannot write /etc/panel/fixed/x: not permitted; the file or its folder may be immutable"
            in said["Site/c"]
        )
        assert outcome["sections"]["Site/d"]["state"] == "succeeded"
    node.run("chattr -i /etc/panel/fixed/x")
    assert node.output("cat /etc/panel/fixed/x; ls -A /etc/panel/full /etc/panel/ro | grep -v :").split() == [
        "old"
    ]
    assert node.run("test -e /etc/panel/a", check=False).returncode == 1


def test_a_state_folder_that_fills_up_ends_in_a_clean_failure(node: Node) -> None:
    """/var/lib/panel and the files share a small disk; the space set aside lets the apply be put back and told."""
    node.run("mkdir -p /var/lib/panel /etc/panel; mount -t tmpfs -o size=4m,mode=700 none /var/lib/panel")
    node.run("mkdir /var/lib/panel/site && mount --bind /var/lib/panel/site /etc/panel")
    body = b"y" * 3_000_000
    with talk(node) as agent:
        outcome = agent.apply(
            1, wanted(node, file("/etc/panel/big", body), symlink("/etc/panel/l", "x")), body
        )
        assert (outcome["state"], "no space left" in messages(outcome)) == ("failed", True), outcome
        assert agent.ask("status", deployment=ulid(1)) == outcome
        assert agent.apply(2, wanted(node, file("/etc/panel/small", b"s")), b"s")["state"] == "succeeded"
    assert node.output("ls -A /etc/panel") == "small"
