"""`make demo`: from a git commit to pages served by real nodes, a change, a break, a repair. Ends with one line."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from demo.stage import DemoFailed, Stage
from lab import Lab, LabError, LabUnavailable

PAGE = Path(__file__).with_name("page.php")


@dataclass(frozen=True)
class Served:
    """A site of the example fleet: its node, its domain, the folder it is served from, and the page's address."""

    node: str
    domain: str
    folder: str


SITES: Mapping[str, Served] = {
    "shop": Served("web1", "shop.example.test", "public_html"),
    "status": Served("web1", "status.example.test", "public_html/web"),
    "crm": Served("web2", "crm.example.test", "public_html/public"),
}


def headline(text: str) -> None:
    """Say what comes next."""
    print(f"\n=== {text}", flush=True)


def prepare(stage: Stage) -> None:
    """State directory, login key, enrolment of both nodes."""
    headline("A state directory, and two nodes that the daemon may manage")
    stage.reconciler("init")
    stage.reconciler("validate", str(stage.fleet))
    for name in stage.nodes:
        identity = str(stage.lab.key.private)
        stage.reconciler("servers", "enroll", name, "--identity", identity, "--accept-host-key")


def converge(stage: Stage) -> None:
    """Plan and apply the first commit, then bring each site's application."""
    headline("The first commit: plan, then apply")
    stage.reconciler("plan")
    stage.reconciler("apply", "--yes")
    headline("Each site's developer uploads a page that reads its database")
    page = PAGE.read_text()
    for site, served in SITES.items():
        node = stage.nodes[served.node]
        user = node.output(f"stat -c %U /run/panel-fpm/{site}")
        folder = f"/home/{user}/{served.folder}"
        node.run(f"runuser -u {user} -- sh -c 'cat > {folder}/index.php'", stdin=page)


def visit(stage: Stage, expect: Mapping[str, str] = MappingProxyType({})) -> int:
    """Fetch every site's page and print it; the number of sites, each of which answered as it should (and with `expect`)."""
    for site, served in SITES.items():
        # a query string passes the page cache of WordPress sites
        status, body = stage.fetch(stage.nodes[served.node], served.domain, "/?visit")
        print(f"  http://{served.domain}/?visit -> {status} {body.strip()}", flush=True)
        if status != 200 or f"http://{served.domain}" not in body or expect.get(site, "") not in body:
            raise DemoFailed(
                f"{site} does not serve its page{' with ' if site in expect else ''}{expect.get(site, '')}"
            )
    return len(SITES)


def change_one(stage: Stage) -> None:
    """A second commit changes one site; the plan shows only that, and only that happens."""
    headline("The second commit: one site gets more memory")
    path = stage.fleet / "sites/shop.yaml"
    text = path.read_text()
    if "256M" not in text:
        raise DemoFailed("the example fleet no longer says memoryLimit: 256M for shop")
    path.write_text(text.replace("256M", "320M"))
    stage.commit("Give the shop more memory")
    changed = [
        change["address"]
        for change in stage.report("plan")["resource_changes"]
        if change["change"]["actions"] != ["no-op"]
    ]
    if changed != ["Site/shop"]:
        raise DemoFailed(f"the second commit should change Site/shop alone, but the plan has {changed}")
    stage.reconciler("apply", "--yes")
    visit(stage, {"shop": "memory limit 320M"})


def break_and_heal(stage: Stage) -> None:
    """Break two things by hand, show the drift, put it back."""
    headline("Somebody breaks things by hand: a virtual host is gone, a .env is open to all")
    node = stage.nodes["web1"]
    node.run("rm /etc/nginx/conf.d/panel-shop.conf && systemctl reload nginx && chmod 0644 /home/web1/.env")
    stage.reconciler("drift", "--detailed-exitcode", codes=(2,))
    stage.reconciler("apply", "--yes")
    visit(stage)


def conclude(stage: Stage, served: int) -> str:
    """Deployments and status, and the line that says it all."""
    headline("What happened")
    stage.reconciler("deployments")
    stage.reconciler("status")
    headline("Once more: nothing to do")
    said = stage.reconciler("apply", "--yes")
    if "No changes." not in said:
        raise DemoFailed("the last reconcile should change nothing")
    deployments = len(stage.report("deployments", "--limit", "1000"))
    return f"demo: {served} sites served, {deployments} deployments, last reconcile: no changes"


def look_around(stage: Stage) -> None:
    """Say how to get in, and wait for Ctrl-C."""
    print(
        f"\nLeft running. In another terminal:\n  sudo nsenter -t {stage.pid} -n -m  # a shell that reaches the nodes"
    )
    for name, node in stage.nodes.items():
        print(
            f"  ssh -i {stage.lab.key.private} -o UserKnownHostsFile={stage.lab.key.known_hosts} root@{node.ip}  # {name}"
        )
    print(f"  export RECONCILER_STATE={stage.state} RECONCILER_FLEET={stage.fleet}")
    print(f"  {stage.program} status")
    print("Ctrl-C ends it and leaves nothing behind.", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def run(*, keep: bool) -> int:
    """The whole demonstration."""
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as folder, Lab() as lab:
        headline(
            "Starting two nodes: a bare one like Enterprise Linux 9, and a Debian 12 with its packages preinstalled"
        )
        stage = Stage.build(lab, Path(folder))
        prepare(stage)
        converge(stage)
        served = visit(stage)
        change_one(stage)
        break_and_heal(stage)
        line = conclude(stage, served)
        if keep:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            look_around(stage)
    print(f"\n{line}")
    return 0


def main() -> int:
    """Parse and run; a failure ends with its reason."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the nodes running until Ctrl-C")
    arguments = parser.parse_args()
    try:
        return run(keep=arguments.keep)
    except (DemoFailed, LabError, LabUnavailable) as fault:
        print(f"\ndemo: failed: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: cancelled", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
