"""Minutes of a daemon process with two lab nodes: pushes, cuts, reboots, drift by hand; what the process came to hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.soak_report import Report, Sample
from lab import Lab, Node, faults
from tests.e2e.harness import boot
from tests.faults.stage import Stage

SITES = {"shop": "web1", "blog": "web1", "crm": "web2", "wiki": "web2"}
_DRIFT = {"mode": "heal", "every": "1m"}
_AT_REST = ("Ready", "SourceReady", "Reachable")


def soak(seconds: float, seed: int) -> Report:
    """Play it; what came of it."""
    what = (
        f"soak of a daemon process, {seconds / 60:.0f} min, two nodes x {len(SITES) // 2} sites, seed {seed}"
    )
    report = Report(what, seconds / 5, seconds / 10)
    began = time.monotonic()
    with TemporaryDirectory(prefix="reconciler-soak-") as folder, Lab() as lab:
        nodes = boot(lab, web1="el9-web", web2="debian12-web")
        with Stage.on(Path(folder), **nodes) as stage:
            _prepare(stage)
            pid = stage.serve().pid
            stage.reach(300)
            for site in SITES:
                stage.upload(site)
            Soak(stage, seconds, random.Random(seed), report, pid).run()
            report.stuck += stuck(stage)
            report.happened["seconds to stop"] = round(stage.stop())
            report.stuck += [f"left behind: {one}" for one in stage.left_behind()]
            report.stuck += [f"logged: {line}" for line in stage.logged().splitlines() if "Traceback" in line]
    report.wall = time.monotonic() - began
    return report


def _prepare(stage: Stage) -> None:
    """Sites whose drift is healed, and a bare repository with its hooks."""
    for name in stage.nodes:
        stage.fleet.change("Server", name, drift=_DRIFT)
    for name, server in SITES.items():
        stage.site(name, server, drift=_DRIFT)
    stage.push("Declare the sites")
    stage.run("hook", "install", str(stage.bare))


class Soak:
    """One soak while it lasts."""

    def __init__(self, stage: Stage, seconds: float, chance: random.Random, report: Report, pid: int) -> None:
        self._stage = stage
        self._seconds = seconds
        self._chance = chance
        self._report = report
        self._pid = pid

    def run(self) -> None:
        """Something happens every few seconds until the time is over; then everything comes to rest."""
        began = time.monotonic()
        deeds: Mapping[str, tuple[float, Callable[[], None]]] = {
            "pushed": (8, self._push),
            "pushed with hooks": (1, self._push_with_hooks),
            "connections cut": (2, lambda: faults.kill_ssh_sessions(self._node())),
            "silences": (2, self._silence),
            "drifted": (3, self._drift),
            "rebooted": (0.4, lambda: void(self._node().reboot())),
            "power cuts": (0.4, self._power_cut),
        }
        while (at := time.monotonic() - began) < self._seconds:
            self._sample(at)
            name = self._chance.choices(list(deeds), [share for share, _ in deeds.values()])[0]
            deeds[name][1]()
            self._report.happened[name] += 1
            time.sleep(self._chance.uniform(1.0, 5.0))
            assert self._stage.running().poll() is None, self._stage.told()
        self._stage.reach(120)
        for server in self._stage.nodes:
            self._stage.run("reconcile", f"Server/{server}", "--heal", "--wait")
        self._stage.reach(120)
        # caches are filled by now, and nothing is under way: what is left is held for good
        for _ in range(6):
            self._sample(time.monotonic() - began)
            time.sleep(1)

    def _node(self) -> Node:
        return self._chance.choice(list(self._stage.nodes.values()))

    def _push(self) -> None:
        self._stage.push(**{self._chance.choice(list(SITES)): f"{self._chance.randint(64, 600)}M"})

    def _push_with_hooks(self) -> None:
        """As a person pushes: the plan is shown, and is the one that is applied."""
        self._stage.reach(120)
        self._stage.commit(**{self._chance.choice(list(SITES)): f"{self._chance.randint(64, 600)}M"})
        self._stage.fleet.git("push", "-q", str(self._stage.bare), "main")

    def _silence(self) -> None:
        fault = self._chance.choice((faults.frozen, faults.unplugged, faults.dropped_port))
        with fault(self._node()):
            time.sleep(self._chance.uniform(1.0, 8.0))

    def _drift(self) -> None:
        """Somebody changes something on a node."""
        site = self._chance.choice(list(SITES))
        node = self._stage.nodes[SITES[site]]
        deed = self._chance.choice(
            (
                f"sed -i 's/memory_limit.*/memory_limit] = 33M/' /etc/panel/fpm/{site}.conf",
                f"systemctl stop panel-fpm-{site}",
                f"chmod 0666 /home/{self._stage.user(site)}/.env",
                f"find /etc/nginx -name '*{site}*' -type f -delete; systemctl reload nginx",
            )
        )
        node.run(deed, check=False)

    def _power_cut(self) -> None:
        node = self._node()
        node.crash()
        node.start()
        node.wait_ssh()

    def _sample(self, at: float) -> None:
        folder = Path("/proc", str(self._pid))
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
        )
        self._report.samples.append(
            Sample(
                at,
                {
                    "resident bytes": int(status["VmRSS"].split()[0]) * 1024,
                    "open files": len(list((folder / "fd").iterdir())),
                    "threads": int(status["Threads"]),
                    "database bytes": sum(
                        path.stat().st_size for path in self._stage.state.glob("state.sqlite*")
                    ),
                },
            )
        )


def stuck(stage: Stage) -> list[str]:
    """Whatever is not at rest."""
    found = [
        f"{kind}/{name} {word}={status} {reason} {message}"
        for kind, name, word, status, reason, message in stage.rows(
            "SELECT kind, name, type, status, reason, message FROM conditions"
        )
        if (status == "True") is not (word in _AT_REST)
    ]
    if not stage.at_newest():
        found.append("the fleet is not at the newest commit")
    if stage.unfinished():
        found.append(f"{stage.unfinished()} deployments are unfinished")
    found += [
        f"request {row[0]} waits" for row in stage.rows("SELECT verb FROM requests WHERE outcome IS NULL")
    ]
    for site in SITES:
        try:
            stage.shows(site)
        except AssertionError:
            found.append(f"{site} does not serve the newest settings")
    return found


def void(_: object) -> None:
    """Drop a result."""
