"""What SELinux costs a node, on the emulated machine that enforces: `python -m bench.selinux`.

Sizes are the machine's own; seconds are those of an emulated processor, so only their ratios mean anything elsewhere. The
unit is a start and stop of nginx on the same machine.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.vm import Machine
from tests.vm.stage import Stage
from tests.vm.world import SITES, provision

RUNS = 5
TIMED = "begun=$(date +%s.%N); ( {command} ) >/dev/null 2>&1 || exit 1; echo $begun $(date +%s.%N)"
UNIT = "systemctl stop nginx && systemctl start nginx"
WORK = {
    "nginx reload": "systemctl reload nginx",
    "policy load": "load_policy",
    "module installed": "semodule -X 400 -i $(ls /var/lib/panel/selinux/panel-*.pp | head -1)",
    "contexts of 1 site": "printf '%s\\n' {lines1} | semanage import",
    "contexts of 10 sites": "printf '%s\\n' {lines10} | semanage import",
    "a site's 1,000 files relabelled": "restorecon -R -F /home/web1",
}
FACTS = {
    "kernel": "uname -sr",
    "policy": "dpkg-query -W selinux-policy-default",
    "bytes of the policy": "stat -Lc %s /etc/selinux/*/policy/policy.*",
    "loaded at boot": "journalctl -b -o cat --no-pager | grep -i -m1 'loaded SELinux policy'",
}
MEMORY = """
for unit in $(systemctl list-units --plain --no-legend 'panel-fpm-*.service' | awk '{print $1}'); do
  pid=$(systemctl show -P MainPID $unit); awk '/^Rss|^Pss:/ {print $1, $2}' /proc/$pid/smaps_rollup | tr '\\n' ' '; echo
done
"""


def _lines(numbers: range) -> str:
    kinds = ("", "/storage", "/tmp", "/sessions", "/logs")
    return " ".join(
        f"\"fcontext -a -f a -s system_u -t laravel_app_rw_t -r 's0:c5,c{200 + number}' "
        f"'/home/bench{number}{kind}(/.*)?'\""
        for number in numbers
        for kind in kinds
    )


def _seconds(machine: Machine, command: str) -> float:
    begun, ended = machine.output(TIMED.format(command=command), timeout=600).split()
    return float(ended) - float(begun)


def main() -> int:
    """Measure and print."""
    with (
        TemporaryDirectory(prefix="reconciler-selinux-") as folder,
        Machine() as machine,
        Stage.over(machine, Path(folder)) as stage,
    ):
        world = provision(machine, stage)
        for what, command in FACTS.items():
            print(f"{what}: {machine.output(command)}")
        for name in SITES:
            world.php(name, "echo 1;")
        for line in machine.output(MEMORY).splitlines():
            print(f"idle php-fpm master, KiB: {line}")
        machine.run("cd /home/web1/storage && for n in $(seq 1000); do echo x > file$n; done")
        unit = statistics.median(_seconds(machine, UNIT) for _ in range(RUNS))
        print(f"unit: {unit:.2f} s on this machine")
        for name, command in WORK.items():
            found = [_seconds(machine, _filled(command, 100 * turn)) for turn in range(3)]
            print(f"{name}: {statistics.median(found) / unit:.1f} units")
    return 0


def _filled(command: str, start: int) -> str:
    one, ten = _lines(range(start, start + 1)), _lines(range(start + 10, start + 20))
    return command.replace("{lines1}", one).replace("{lines10}", ten)


if __name__ == "__main__":
    raise SystemExit(main())
