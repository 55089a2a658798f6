"""Following the log of a real auditd: what the kernel refuses in a burst is counted exactly, over forced rotations."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from lab.vm import Machine
from reconciler.nodes import agentzip
from reconciler.selinux import audit

LOOP = """
for _ in range(1000):
    try:
        open("/etc/shadow")
    except OSError:
        pass
"""
# stock httpd_t may be entered by systemd through this type, and may not read /etc/shadow
CONFINED = "systemd-run --wait --collect -q -p SELinuxContext=system_u:system_r:httpd_t:s0"


def test_a_burst_over_rotations_is_told_exactly(machine: Machine) -> None:
    machine.write("/root/agent.b64", base64.b64encode(agentzip.build().data).decode())
    machine.write("/usr/share/loop.py", LOOP)
    machine.output(
        "base64 -d /root/agent.b64 > /root/agent && cp /usr/bin/python3 /opt/confined"
        " && chcon -t httpd_exec_t /opt/confined && chmod 644 /usr/share/loop.py"
    )
    told: dict[str, int] = {}
    cursor: Any = None

    def ask() -> None:
        nonlocal cursor
        while True:
            request = {"id": 1, "op": "avc", "cursor": cursor, "most": 100}
            machine.write("/root/request", json.dumps(request) + "\n")
            answer = json.loads(machine.output("python3 -I -S /root/agent serve < /root/request"))["result"]
            assert (answer["log"], answer["gap"]) == (True, None)
            cursor = answer["cursor"]
            for event in answer["events"]:
                for denial in audit.parse(event["lines"]):
                    told[denial.object] = told.get(denial.object, 0) + event["count"]
            if not answer["more"]:
                return

    for _ in range(3):
        machine.output(f"{CONFINED} /opt/confined /usr/share/loop.py && echo done")
        ask()
        machine.output("systemctl kill -s USR1 auditd && sleep 1 && echo rotated")
    time.sleep(3)  # an event of which more may come waits for two seconds
    ask()
    assert "lost 0" in machine.output("auditctl -s")
    files = machine.output("ls -r /var/log/audit/audit.log*").split()
    assert len(files) == 4
    assert told["shadow"] == 3000
    written = audit.parse(machine.run(f"cat {' '.join(files)}").stdout.splitlines())
    assert sum(told.values()) == len(written)
