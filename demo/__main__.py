"""`make demo`: a daemon, a `git push`, pages served by real nodes; a change, a bad commit, a break, a repair. Ends with one line."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from demo.stage import DemoFailed, Stage
from lab import Lab, LabError, LabUnavailable

PAGE = Path(__file__).with_name("page.php")
CONVERGE = "600s"


@dataclass(frozen=True)
class Served:
    """A site of the demo's fleet: its node, its domain, the folder it is served from, and the page's address."""

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
    """State directory, checks on the git server, the first push, enrolment of both nodes, and the daemon."""
    headline("A state directory, a bare repository with its hooks, and the first push")
    stage.reconciler("init")
    stage.reconciler("hook", "install", str(stage.bare))
    stage.commit("Declare the fleet")
    stage.push()
    headline("Two nodes that the daemon may manage")
    for name in stage.nodes:
        identity = str(stage.lab.key.private)
        stage.reconciler("servers", "enroll", name, "--identity", identity, "--accept-host-key")


class Uploads(threading.Thread):
    """Each site's developer, who uploads a page as soon as there is a place for it: health checks wait for it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._over = threading.Event()

    def run(self) -> None:
        """Upload to each site once its PHP runs."""
        page = PAGE.read_text()
        waiting = dict(SITES)
        while waiting and not self._over.wait(0.2):
            for site, served in list(waiting.items()):
                node = self._stage.nodes[served.node]
                found = node.run(f"stat -c %U /run/panel-fpm/{site} 2>/dev/null", check=False)
                if found.returncode == 0:
                    user = found.stdout.strip()
                    folder = f"/home/{user}/{served.folder}"
                    node.run(f"runuser -u {user} -- sh -c 'cat > {folder}/index.php'", stdin=page)
                    del waiting[site]

    def end(self) -> None:
        """Nobody uploads any more."""
        self._over.set()
        self.join(10)


def converge(stage: Stage) -> None:
    """The daemon converges the first commit, while each site's developer uploads a page that reads its database."""
    headline(
        "The daemon: it converges the canary web2 first, then web1; each site's developer uploads a page"
    )
    uploads = Uploads(stage)
    uploads.start()
    try:
        stage.serve()
        stage.reconciler("wait", "Fleet/main", "--timeout", CONVERGE)
    finally:
        uploads.end()


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


class Watch(threading.Thread):
    """Asks for a page again and again, until it says something new; `seen` is when its first byte came."""

    def __init__(self, stage: Stage, site: str, expect: str) -> None:
        super().__init__(daemon=True)
        self._stage, self._served, self._expect = stage, SITES[site], expect
        self._over = threading.Event()
        self.seen = 0.0

    def run(self) -> None:
        """Ask until it is there."""
        node = self._stage.nodes[self._served.node]
        while not self._over.wait(0.02):
            try:
                status, body = self._stage.fetch(node, self._served.domain, "/?watch", timeout=5)
            except (DemoFailed, urllib.error.URLError):
                continue
            if status == 200 and self._expect in body:
                self.seen = time.monotonic()
                return

    def end(self) -> float:
        """When the new page was there. DemoFailed when it never was."""
        self.join(60)
        self._over.set()
        if not self.seen:
            raise DemoFailed(f"{self._served.domain} never said {self._expect}")
        return self.seen


def change_one(stage: Stage) -> float:
    """A second commit changes one site; only that happens, and the pusher sees it. Seconds from push to the new page."""
    headline("The second commit: one site gets more memory")
    path = stage.fleet / "sites/shop.yaml"
    text = path.read_text()
    if "256M" not in text:
        raise DemoFailed("the demo's fleet no longer says memoryLimit: 256M for shop")
    path.write_text(text.replace("256M", "320M"))
    stage.commit("Give the shop more memory")
    watch = Watch(stage, "shop", "memory limit 320M")
    watch.start()
    began = time.monotonic()
    stage.push()
    seconds = watch.end() - began
    print(f"\n{seconds:.2f} seconds from `git push` to the first byte of the new page")
    commit = stage.git("rev-parse", "HEAD").strip()
    changed = [d for d in stage.report("deployments", "--limit", "1000") if d["commit"] == commit]
    if [d["resource"] for d in changed] != ["Site/shop"]:
        raise DemoFailed(f"the second commit should reconcile Site/shop alone, but it did {changed}")
    visit(stage, {"shop": "memory limit 320M"})
    return seconds


def push_a_mistake(stage: Stage) -> None:
    """A commit with a mistake is refused where it is pushed, with file, line and column."""
    headline("A commit with a mistake: the push is refused")
    path = stage.fleet / "sites/crm.yaml"
    text = path.read_text()
    path.write_text(text.replace("server: web2", "server: web3"))
    stage.commit("Move the CRM to a server that nobody has declared")
    said = stage.push(refused=True)
    if "sites/crm.yaml:" not in said:
        raise DemoFailed("the refusal should name the file and line")
    stage.git("reset", "-q", "--hard", "HEAD~1")


def break_and_heal(stage: Stage) -> None:
    """Break two things by hand; the daemon finds and repairs what the manifests let it repair."""
    headline("Somebody breaks things by hand: a virtual host is gone, a .env is open to all")
    node = stage.nodes["web1"]
    node.run("rm /etc/nginx/conf.d/panel-shop.conf && systemctl reload nginx && chmod 0644 /home/web1/.env")
    stage.reconciler("drift", "--detailed-exitcode", codes=(2,))
    stage.reconciler("reconcile", "Server/web1", "--heal", "--wait")
    stage.reconciler("drift", "--detailed-exitcode")
    visit(stage)


def conclude(stage: Stage, served: int, seconds: float) -> str:
    """Deployments and status, and the line that says it all."""
    headline("What happened")
    stage.reconciler("deployments")
    stage.reconciler("status")
    stage.reconciler("top", "--once")
    headline("The daemon is told to stop")
    took = stage.end_daemon()
    print(f"it ended after {took:.1f} seconds")
    said = stage.reconciler("apply", "--yes")
    if "No changes." not in said:
        raise DemoFailed("after the daemon an apply should change nothing")
    deployments = len(stage.report("deployments", "--limit", "1000"))
    return (
        f"demo: {served} sites served, {deployments} deployments, {seconds:.2f} s from git push to the new page, "
        "last reconcile: no changes"
    )


def look_around(stage: Stage) -> None:
    """Say how to get in, and wait for Ctrl-C."""
    print(
        f"\nLeft running. In another terminal:\n  sudo nsenter -t {stage.pid} -n -m  # a shell that reaches the nodes"
    )
    for name, node in stage.nodes.items():
        print(
            f"  ssh -i {stage.lab.key.private} -o UserKnownHostsFile={stage.lab.key.known_hosts} root@{node.ip}  # {name}"
        )
    print(f"  export RECONCILER_STATE={stage.state} RECONCILER_FLEET={stage.bare}")
    print(f"  {stage.program} status; cd {stage.fleet}  # change something, commit, git push origin main")
    print(f"  tail -f {stage.log}")
    print("Ctrl-C ends it and leaves nothing behind.", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def run(*, keep: bool) -> int:
    """The whole demonstration."""
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as folder, Lab() as lab:
        headline(
            "Starting two nodes: a bare one like Enterprise Linux 9, and a Debian 12 with its packages preinstalled"
        )
        stage = Stage.build(lab, Path(folder))
        try:
            prepare(stage)
            converge(stage)
            served = visit(stage)
            seconds = change_one(stage)
            push_a_mistake(stage)
            break_and_heal(stage)
            line = conclude(stage, served, seconds)
            if keep:
                stage.serve()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
                look_around(stage)
                stage.end_daemon()
        finally:
            stage.kill_daemon()
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
