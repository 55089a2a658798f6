"""Disk quotas as a kernel keeps them that can, which the one below the lab's nodes cannot."""

from __future__ import annotations

import subprocess

from lab.vm import Machine
from reconciler.nodes import agentzip
from tests.agent.building import bundle, gone, section, user
from tests.agent.talking import Talk

PROGRAM = "/usr/bin/panel-ssh-manager"
MIB = 1024 * 1024
FILL = "runuser -u web1 -- dd if=/dev/zero of=/home/web1/full bs=1M count={} 2>&1"


def _quota(limit: int) -> dict[str, object]:
    return {"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "bytes": limit * MIB}


def test_a_site_cannot_write_beyond_its_disk_quota(machine: Machine) -> None:
    machine.run("setenforce 0")
    machine.run(
        "truncate -s 256M /var/tmp/homes && mkfs.ext4 -q -O quota /var/tmp/homes && mount -o loop /var/tmp/homes /home",
        timeout=300,
    )
    install = f"cat > {PROGRAM} && chmod 755 {PROGRAM}"
    subprocess.run(
        [*machine.ssh_argv(), install],
        input=agentzip.build().data,
        check=True,
        timeout=120,
        capture_output=True,
    )
    with Talk([*machine.ssh_argv(), f"{PROGRAM} serve"]) as agent:
        first = bundle(section("Site/shop", user("web1", home_mode="0700"), _quota(20)))
        # counted, but nobody is held to a limit
        refused = agent.apply(5, first)["sections"]["Site/shop"]
        assert refused["state"] == "failed"
        assert "holds no user to a quota" in refused["message"]
        machine.run("umount /home && mount -o loop,usrquota /var/tmp/homes /home")
        assert agent.apply(1, first)["sections"]["Site/shop"]["state"] == "succeeded"
        full = machine.run(FILL.format(40), check=False, timeout=300)
        assert full.returncode != 0
        assert "quota exceeded" in full.stdout
        assert machine.run("dd if=/dev/zero of=/home/of-root bs=1M count=40", timeout=300).returncode == 0
        assert agent.apply(2, first)["sections"]["Site/shop"]["state"] == "unchanged"

        # what somebody changes by hand is found, and more room is given without anything else
        more = bundle(section("Site/shop", user("web1", home_mode="0700"), _quota(60)))
        assert agent.apply(3, more)["sections"]["Site/shop"]["changed"] == 1
        assert machine.run(FILL.format(40), timeout=300).returncode == 0
        less = bundle(section("Site/shop", gone(_quota(60)), user("web1", home_mode="0700")))
        assert agent.apply(4, less)["sections"]["Site/shop"]["changed"] == 1
        assert machine.run(FILL.format(100), timeout=300).returncode == 0
