"""Power, reboots and faults: what a node goes through, and that it comes back with its disk."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from lab import Lab, LabError, Node, faults
from tests.lab_fixtures import MakeNode

QUICK = ("ConnectTimeout=2", "ServerAliveInterval=1", "ServerAliveCountMax=2")


def try_ssh(node: Node, command: str = "true") -> int:
    """The status of an impatient ssh client; 255 means the connection failed."""
    argv = [*node.ssh_argv("root", *QUICK), command]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    ).returncode


def session(node: Node, seconds: int) -> subprocess.Popen[str]:
    """An open session with a command that has begun."""
    argv = [*node.ssh_argv("root", *QUICK), f"echo begun; sleep {seconds}; echo over"]
    opened = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert opened.stdout is not None
    assert opened.stdout.readline() == "begun\n"
    return opened


def finish(opened: subprocess.Popen[str]) -> int:
    """Waits for a session that is expected to break."""
    try:
        opened.communicate(timeout=30)
    finally:
        opened.kill()
    return opened.returncode


def test_crash_keeps_the_disk(node: Node) -> None:
    before = node.boot_id()
    node.ssh("echo kept > /root/kept")
    node.crash()
    assert not node.running
    assert try_ssh(node) == 255
    node.start()
    node.wait_ssh()
    assert node.ssh("cat /root/kept").stdout == "kept\n"
    assert node.boot_id() != before


def test_crash_ends_what_was_running(debian_node: Node) -> None:
    opened = session(debian_node, 600)
    pids = debian_node.pids()
    debian_node.crash()
    assert finish(opened) == 255
    assert debian_node.pids() == []
    assert len(pids) > 3


def test_poweroff_and_start_again(node: Node) -> None:
    node.ssh("echo kept > /root/kept")
    node.poweroff()
    assert not node.running
    node.start()
    node.wait_ssh()
    assert node.ssh("cat /root/kept").stdout == "kept\n"


def test_reboot_from_inside(node: Node) -> None:
    before = node.boot_id()
    assert node.reboot() > 0
    assert node.boot_id() != before
    assert node.ssh("true").returncode == 0


def test_databases_survive_a_power_cut(web_node: Node) -> None:
    web_node.run("mariadb -e 'create database kept'")
    web_node.crash()
    web_node.start()
    web_node.wait_ssh()
    web_node.wait_active("mariadb")
    assert web_node.output("mariadb -Ne \"show databases like 'kept'\"") == "kept"


def test_started_twice_is_refused(debian_node: Node) -> None:
    with pytest.raises(LabError, match="already running"):
        debian_node.start()


def test_frozen_node_accepts_and_stays_silent(debian_node: Node) -> None:
    with faults.frozen(debian_node):
        with socket.create_connection((debian_node.ip, 22), timeout=5) as link:
            link.settimeout(1)
            with pytest.raises(TimeoutError):
                link.recv(1)
        assert try_ssh(debian_node) == 255
    assert try_ssh(debian_node) == 0


def test_cable_out_in_mid_command(debian_node: Node) -> None:
    opened = session(debian_node, 600)
    with faults.unplugged(debian_node):
        assert finish(opened) == 255
        assert try_ssh(debian_node) == 255
    debian_node.wait_ssh()
    assert try_ssh(debian_node) == 0


def test_dropped_and_refused_port(node: Node) -> None:
    with faults.dropped_port(node), pytest.raises(TimeoutError):
        socket.create_connection((node.ip, 22), timeout=1).close()
    with faults.refused_port(node), pytest.raises(ConnectionRefusedError):
        socket.create_connection((node.ip, 22), timeout=5).close()
    assert try_ssh(node) == 0


def test_packet_loss_is_survived(debian_node: Node) -> None:
    with faults.packet_loss(debian_node, 10):
        assert debian_node.ssh("echo through").stdout == "through\n"


def test_latency_keeps_connections(debian_node: Node) -> None:
    opened = session(debian_node, 3)
    with faults.latency(debian_node, delay=0.1, jitter=0.01):
        begun = time.monotonic()
        socket.create_connection((debian_node.ip, 22), timeout=10).close()
        assert time.monotonic() - begun >= 0.2  # once there and once back
        assert finish(opened) == 0
    assert debian_node.ssh("echo again").stdout == "again\n"


def test_latency_over_a_power_cut(debian_node: Node) -> None:
    with faults.latency(debian_node, delay=0.05, loss=0.05):
        debian_node.crash()
        debian_node.start()
        debian_node.wait_ssh()
    assert try_ssh(debian_node) == 0


def test_slow_network(debian_node: Node) -> None:
    with faults.slow_network(debian_node, "256kbit"):
        begun = time.monotonic()
        assert len(debian_node.ssh("head -c 100000 /dev/zero | tr '\\0' x").stdout) == 100_000
        # 100 kB cannot pass in less: a bound from below, whatever else the machine does
        assert time.monotonic() - begun > 1.5


def test_sshd_stopped(node: Node) -> None:
    with faults.sshd_stopped(node), pytest.raises(ConnectionRefusedError):
        socket.create_connection((node.ip, 22), timeout=5).close()
    assert try_ssh(node) == 0


def test_killed_session_leaves_the_command_running(debian_node: Node) -> None:
    opened = session(debian_node, 617)
    faults.kill_ssh_sessions(debian_node)
    assert finish(opened) == 255
    assert debian_node.output("pgrep -fc '^sleep 617'") == "1"
    assert try_ssh(debian_node) == 0


def test_reset_connections(debian_node: Node) -> None:
    opened = session(debian_node, 600)
    faults.reset_connections(debian_node)
    assert finish(opened) == 255
    assert try_ssh(debian_node) == 0


def test_full_disk(node: Node) -> None:
    with faults.full_disk(node, "/srv"):
        refused = node.ssh("echo too much > /srv/file", check=False)
        assert refused.returncode != 0
        assert "No space left" in refused.stderr
        assert node.ssh("touch /var/tmp/elsewhere").returncode == 0
    assert node.ssh("echo fits > /srv/file").returncode == 0


def test_small_disk_has_the_folders_owner(debian_node: Node) -> None:
    debian_node.run("install -d -m 750 -o www-data -g mail /srv/site")
    with faults.small_disk(debian_node, "/srv/site", inodes=3):
        assert debian_node.output("stat -c '%U:%G %a' /srv/site") == "www-data:mail 750"
        done = debian_node.run("cd /srv/site && touch a b c d", check=False)
        assert "No space left" in done.stderr


def test_read_only_and_immutable(debian_node: Node) -> None:
    with faults.read_only(debian_node, "/etc/cron.d"):
        assert "Read-only" in debian_node.run("touch /etc/cron.d/x", check=False).stderr
    debian_node.run("touch /etc/cron.d/x")
    with faults.immutable(debian_node, "/etc/cron.d/x"):
        assert "not permitted" in debian_node.run("echo 1 > /etc/cron.d/x", check=False).stderr
    debian_node.run("rm /etc/cron.d/x")


def test_names_and_addresses_are_free_again(lab: Lab, make_node: MakeNode) -> None:
    first = make_node("debian12", "twice")
    ip = first.ip
    first.remove()
    assert not first.dir.exists()
    second = make_node("debian12", "twice")
    assert second.ip == ip
    assert lab.nodes["twice"] is second
