"""The virtual machine is what the other tests take it for: it enforces, it says what it refused, it can be set back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lab
from lab.host import LabError
from lab.vm import Machine, machine, needs
from lab.vm.ready import READY
from lab.vm.shell import Shell
from tests.vm import denials

REPOSITORY = Path(lab.__file__).parent.parent
OWNER = """
import time
from lab.vm import Machine
machine = Machine()
print(machine.pid, flush=True)
time.sleep(600)
"""
SHADOW = "systemd-run -q --wait -p SELinuxContext=system_u:system_r:{domain}:s0 /bin/cat /etc/shadow"
UNLABELLED = r"find / -xdev \( -context '*:unlabeled_t:*' -o -context '*:file_t:*' \) -print -quit"


def test_it_has_booted_enforcing(machine: Machine) -> None:
    assert machine.output("getenforce") == "Enforcing"
    assert machine.output("cat /sys/fs/selinux/enforce /sys/fs/selinux/mls") == "11"
    assert machine.output("id -Z") == "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
    assert machine.output("systemctl --failed --no-legend") == ""
    domains = machine.output("ps -eo label,comm --no-headers | awk '{print $2, $1}'").splitlines()
    for daemon in ("auditd auditd_t", "mariadbd mysqld_t", "nginx httpd_t", "systemd init_t"):
        name, domain = daemon.split()
        assert f"{name} system_u:system_r:{domain}:s0" in domains


def test_every_file_has_a_label(machine: Machine) -> None:
    assert machine.output(UNLABELLED) == ""
    machine.run("touch /root/lost; chcon -t unlabeled_t /root/lost")
    assert machine.output(UNLABELLED) == "/root/lost", "else the question would find nothing"


def test_the_boot_was_refused_only_what_is_known_to_be_harmless(machine: Machine) -> None:
    refused = {denials.refusal(denial) for denial in denials.since(machine)}
    assert refused == denials.BOOT


def test_a_confined_program_is_refused_and_the_log_says_so(machine: Machine) -> None:
    marked = denials.mark(machine)
    machine.run(SHADOW.format(domain="unconfined_t"))
    assert denials.since(machine, marked) == ()
    assert machine.run(SHADOW.format(domain="logrotate_t"), check=False).returncode != 0
    assert "logrotate_t" in {denials.refusal(denial)[0] for denial in denials.since(machine, marked)}


def test_what_a_test_leaves_is_gone_in_the_next(machine: Machine) -> None:
    machine.run("touch /etc/left; setenforce 0; systemctl stop nginx; systemd-run -q --unit=left sleep 600")
    machine.reset()
    assert machine.run("ls /etc/left", check=False).returncode != 0
    assert machine.output("getenforce; systemctl is-active nginx") == "Enforcing\nactive"
    assert machine.run("systemctl is-active left", check=False).stdout.strip() == "inactive"
    assert abs(float(machine.output("date +%s")) - time.time()) < 30, "it has the clock of today"


def test_states_are_kept_and_brought_back(machine: Machine) -> None:
    machine.write("/root/state", "one")
    machine.snapshot("one")
    machine.write("/root/state", "two")
    machine.restore("one")
    assert machine.output("cat /root/state") == "one"
    with pytest.raises(LabError, match="nothing"):
        machine.restore("nothing")


def test_it_is_on_loopback_and_reaches_nobody(machine: Machine) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    mine = [line.split()[3] for line in listening.splitlines() if f"pid={machine.pid}," in line]
    assert sorted(mine) == sorted(f"127.0.0.1:{port}" for port in (machine.ssh_port, machine.http_port))
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        done = machine.run(f"curl -s -m 5 http://10.0.2.2:{port}/", check=False)
    assert done.returncode in (7, 28), done  # refused, or no answer


def test_failed_and_endless_commands_say_so(machine: Machine) -> None:
    with pytest.raises(LabError, match=r"(?s)status 3.*why not"):
        machine.run("echo why not >&2; exit 3")
    with pytest.raises(LabError, match="no end within 1 s"):
        machine.run("sleep 60", timeout=1)
    assert machine.output("echo on it goes") == "on it goes"


def test_it_ends_with_a_killed_owner() -> None:
    if needs.why_not() or not READY.ready:
        pytest.skip("no virtual machine here")
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert Path(f"/proc/{pid}/exe").readlink().name == "qemu-system-x86_64"
        ports = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
        assert f"pid={pid}," in ports
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it outlives its owner"
        time.sleep(0.05)


def test_a_start_that_hangs_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Played, because it happens once in some seventy starts."""
    started: list[str] = []

    class Played:
        """Stands for the emulator."""

        def __init__(self, *_: object, **__: object) -> None:
            self.ports = {22: 1, 80: 2}
            started.append("start")

        def kill(self) -> None:
            started.append("kill")

    def entered(*_: object) -> Shell | None:
        if len(started) < 3:
            raise LabError("the machine says nothing")
        return None

    class Built:
        """Stands for what was built."""

        ready = True
        folder = tree = tmp_path

    (tmp_path / "state.qcow2").write_bytes(b"disk")
    (tmp_path / "lock").touch()
    for name, value in (("Qemu", Played), ("_entered", entered), ("DISK", Built), ("READY", Built)):
        monkeypatch.setattr(machine, name, value)
    monkeypatch.setattr(machine, "why_not", list)
    machine.Machine().close()
    assert started == ["start", "kill", "start", "kill"]


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "qemu-system-x86_64 missing: install qemu-system-x86" in needs.why_not()
    with pytest.raises(lab.LabUnavailable, match="qemu-system-x86"):
        machine.Machine()


def test_without_the_built_disk_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECONCILER_LAB_CACHE", str(tmp_path))
    if os.geteuid() != 0 or needs.why_not():
        pytest.skip("without these there is another reason")
    with pytest.raises(lab.ImageMissing, match="python3 -m lab images"):
        machine.Machine()
