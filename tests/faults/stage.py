"""A real daemon (`reconciler serve` as a process) on real nodes, with a bare repository that is pushed to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lab import Node
from tests.e2e import harness
from tests.e2e.harness import PROGRAM, fetch, upload, wait_for
from tests.faults import evidence
from tests.faults.warm import Child, Warm

PAGE = '<?php echo ini_get("memory_limit"), " ", gethostname();'
SETTINGS = """\
fleets: [{{remotes: ["{bare}"], poll: 5s}}]
git: {{timeout: 3s}}
limits: {{retry: {{first: 500ms, longest: 2s}}, applyWithin: {within}}}
"""
Running = subprocess.Popen[bytes] | Child

TOLD = (
    "SELECT kind, name, type, status, reason, message FROM conditions WHERE status != 'False' OR message != ''",
    "SELECT kind, name, status, triggered_via, substr(commit_hash, 1, 8), reason FROM deployments ORDER BY id DESC LIMIT 12",
    'SELECT substr("commit", 1, 8), status, reason FROM revisions ORDER BY id DESC LIMIT 5',
)
"""What a failing test says of the database."""


@dataclass
class Stage(harness.Stage):
    """A fleet with its bare repository, its nodes, and the daemon that serves it; daemons come and go.

    `within` is the settings' applyWithin. `kills` counts the daemons that ended by SIGKILL.
    """

    within: str = "60s"
    kills: int = 0
    daemon: Running | None = None
    warm: Warm | None = field(default=None, repr=False)
    limits: dict[str, str] = field(default_factory=dict)
    """What each site's page must say: its memory limit as it was committed last."""
    planned_steps: evidence.Named = field(default_factory=dict, repr=False)

    @classmethod
    @contextmanager
    def on(cls, folder: Path, **nodes: Node) -> Iterator[Stage]:
        """A stage whose servers are enrolled; nothing is converged yet. Its processes end with the block."""
        stage = cls(harness.Fleet(folder / "fleet"), folder / "state")
        try:
            stage._prepare(nodes)
            yield stage
        finally:
            stage.end()
            if stage.warm is not None:
                stage.warm.close()

    def _prepare(self, nodes: Mapping[str, Node]) -> None:
        self.fleet.git("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.run("init")
        self.settings.write_text(SETTINGS.format(bare=self.bare, within=self.within))
        self.fleet.put("SSHKey", "fleet")
        for name, node in nodes.items():
            self.declare(name, node)
        self.push("Declare the servers")
        for name, node in nodes.items():
            identity = str(node.lab.key.private)
            self.run("servers", "enroll", name, "--identity", identity, "--accept-host-key")

    def declare(self, name: str, node: Node) -> None:
        """Declare a node as a server with one PHP and nothing else."""
        self.nodes[name] = node
        family = node.image.name.removesuffix("-web")
        self.fleet.put(
            "Server",
            name,
            address=node.ip,
            os=harness.OS[family],
            sshKey="fleet",
            software={"php": ["8.2"]},
            selinux=harness.SELINUX,
        )

    @property
    def bare(self) -> Path:
        """The repository on the git server."""
        return self.state.with_name("infra.git")

    @property
    def settings(self) -> Path:
        """The daemon's settings file."""
        return self.state.with_name("settings.yaml")

    @property
    def log(self) -> Path:
        """Where every daemon of this stage writes."""
        return self.state.with_name("daemon.log")

    def environment(self, **more: str) -> dict[str, str]:
        """An installed program is compiled: starting it again and again is quick then."""
        cache = {"PYTHONPYCACHEPREFIX": str(self.state.with_name("compiled"))}
        found = {**super().environment(), "RECONCILER_FLEET": str(self.bare), **cache, **more}
        found.pop("PYTHONDONTWRITEBYTECODE", None)
        return found

    # -- the repository

    def site(self, name: str, server: str, /, limit: str = "64M", **more: object) -> None:
        """Declare a site whose page says its memory limit."""
        super().site(name, server, **{"php": {"memoryLimit": limit}, **more})
        self.limits[name] = limit

    def commit(self, message: str = "Change the fleet", **limits: str) -> str:
        """Commit, without pushing; sites get memory limits."""
        for name, limit in limits.items():
            self.fleet.change("Site", name, php={"memoryLimit": limit})
            self.limits[name] = limit
        return self.fleet.commit(message)

    def land(self, *, forced: bool = False, to: Path | None = None) -> str:
        """What is committed arrives in the bare repository, as by a push but without any hook: the new tip."""
        sign = "+" if forced else ""
        self.fleet.git(
            "--git-dir", str(to or self.bare), "fetch", "-q", str(self.fleet.folder), f"{sign}main:main"
        )
        return self.fleet.git("rev-parse", "main")

    def push(self, message: str = "Change the fleet", **limits: str) -> str:
        """Commit and land."""
        self.commit(message, **limits)
        return self.land()

    def prepare(self, site: str, limits: Sequence[str]) -> list[str]:
        """Commits that lie ready in the bare repository, the oldest first, each with another limit; `move_to` pushes one."""
        text = self.fleet.path("Site", site).read_text()
        manifest = yaml.safe_load(text)
        stream, parent = [], self.fleet.git("rev-parse", "HEAD")
        for number, limit in enumerate(limits, 1):
            manifest["spec"]["php"] = {"memoryLimit": limit}
            body = yaml.safe_dump(manifest, sort_keys=False)
            come_from = f"from {parent}\n" if number == 1 else ""
            stream.append(
                f"commit refs/heads/ready\ncommitter Ada <ada@example.test> {int(time.time())} +0000\n"
                f"data {len(f'Push {number}')}\nPush {number}\n{come_from}"
                f"M 100644 inline {self.fleet.path('Site', site).name}\ndata {len(body)}\n{body}\n"
            )
        subprocess.run(
            ["git", "fast-import", "--quiet"],
            cwd=self.fleet.folder,
            input="".join(stream).encode(),
            check=True,
        )
        made = self.fleet.git("rev-list", "--reverse", f"{parent}..ready").split()
        self.fleet.git(
            "--git-dir", str(self.bare), "fetch", "-q", str(self.fleet.folder), "+ready:refs/ready"
        )
        self.fleet.git("reset", "-q", "--hard", "ready")
        self.fleet.git("branch", "-q", "-D", "ready")
        self.limits[site] = limits[-1]
        return made

    def move_to(self, commit: str) -> None:
        """The quickest push there is: the branch's tip moves to a commit that the bare repository has already."""
        self.fleet.git("--git-dir", str(self.bare), "update-ref", "refs/heads/main", commit)

    @property
    def tip(self) -> str:
        """The newest commit of the branch, as the git server has it."""
        # read, because waiting asks for it many times a second; nothing packs the references here
        return (self.bare / "refs/heads/main").read_text().strip()

    # -- commands

    def run(self, *words: str, code: int | None = 0, timeout: float = 240) -> harness.Said:
        """As the harness's, without the time for the program's imports; what is printed is all in `out`."""
        out = self.state.with_name("said.log")
        out.unlink(missing_ok=True)
        child = self._warm().start(words, self.environment(), out)
        said = harness.Said(words, child.wait(timeout), out.read_text(), "")
        assert code is None or said.code == code, said
        assert not [word for word in harness.NEVER if word in said.text], said
        return said

    def _warm(self) -> Warm:
        if self.warm is None:
            self.warm = Warm()
        return self.warm

    # -- daemons

    def serve(self) -> Running:
        """Start a daemon: the installed program."""
        with self.log.open("ab") as log:
            # should the test process die, so does the daemon
            self.daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(PROGRAM), *self.words],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.daemon

    def serve_warm(self, kill_at: int | None = None) -> Running:
        """Start a daemon quickly; with `kill_at` it ends by SIGKILL at that point of its writes."""
        more = {} if kill_at is None else {"RECONCILER_KILL_AT": str(kill_at)}
        self.daemon = self._warm().start(self.words, self.environment(**more), self.log)
        return self.daemon

    @property
    def words(self) -> tuple[str, ...]:
        """What the program is called with."""
        return ("serve", "--config", str(self.settings), "--log-format", "text")

    def running(self) -> Running:
        """The daemon, which must be there."""
        assert self.daemon is not None
        return self.daemon

    def kill(self) -> None:
        """kill -9."""
        daemon = self.running()
        daemon.kill()
        assert daemon.wait(10) == -signal.SIGKILL
        self.kills += 1
        self.daemon = None

    def stop(self, within: float = 10.0) -> float:
        """SIGTERM; it ends in order within that many seconds. How long it took."""
        daemon = self.running()
        if daemon.poll() is None:  # until it listens to signals, one would end the interpreter
            self.until_logs(f"pid={daemon.pid}")
        begun = time.monotonic()
        daemon.terminate()
        try:
            code = daemon.wait(within)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise AssertionError(f"it did not end within {within} s\n{self.told()}") from None
        self.daemon = None
        assert code == 0, self.told()
        return time.monotonic() - begun

    @contextmanager
    def served(self, within: float = 10.0) -> Iterator[Running]:
        """A daemon for a while, ended in good order."""
        yield self.serve()
        self.stop(within)

    def end(self) -> None:
        """However a test ended: no daemon is left."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        self.daemon = None

    # -- what is known

    def status_of(self, commit: str) -> str:
        """A revision's status; empty while it is unknown."""
        found = self.rows('SELECT status FROM revisions WHERE "commit" = ?', commit)
        return str(found[0][0]) if found else ""

    def deployments_of(self, commit: str = "", kind: str = "Site") -> list[dict[str, object]]:
        """The deployments of a commit, or all of them, the oldest first."""
        columns = ("status", "commit_hash", "apply_id", "stdout", "reason", "triggered_via")
        found = self.rows(f"SELECT {', '.join(columns)} FROM deployments WHERE kind = ? ORDER BY id", kind)
        made = [dict(zip(columns, row, strict=True)) for row in found]
        return [row for row in made if commit in ("", row["commit_hash"])]

    def applies(self, commit: str) -> list[str]:
        """The ids that a commit's applies have on their nodes, the oldest first."""
        return [str(row["apply_id"]) for row in self.deployments_of(commit)]

    def began(self, commit: str, key: str) -> int:
        """How often a step was begun for a commit."""
        mine = self.applies(commit)
        return sum(
            1
            for node in self.nodes.values()
            for step in evidence.begun(node)
            if step.apply in mine and step.key == key
        )

    def unfinished(self) -> int:
        """Deployments that are pending or running."""
        return self.count("deployments", "status IN ('pending', 'running')")

    def says(self, kind: str, name: str, word: str) -> str:
        """A condition in a line: `False SourceRewritten the branch …`; empty when there is none."""
        row = self.row("conditions", kind=kind, name=name, type=word)
        return f"{row['status']} {row['reason']} {row['message']}" if row is not None else ""

    def until_says(self, kind: str, name: str, word: str, beginning: str, seconds: float = 30) -> str:
        """Wait until a condition's line begins so."""
        self.wait(lambda: self.says(kind, name, word).startswith(beginning), seconds)
        return self.says(kind, name, word)

    def wait(self, what: Callable[[], object], seconds: float = 60) -> None:
        """Wait until `what()`; the daemon has to live meanwhile. It fails with what is known."""
        deadline = time.monotonic() + seconds
        while not what():
            alive = self.daemon is None or self.daemon.poll() is None
            assert alive, f"the daemon ended\n{self.told()}"
            assert time.monotonic() < deadline, f"it did not happen in {seconds} s\n{self.told()}"
            time.sleep(0.05)

    def at_newest(self) -> bool:
        """Whether the newest commit is applied and nothing is under way."""
        tip = self.tip
        if self.status_of(tip) != "applied" or self.unfinished():
            return False
        return self.says("Fleet", "main", "Ready").startswith("True Synced " + tip[:12])

    def reach(self, seconds: float = 60) -> None:
        """Wait until the fleet is at the newest commit."""
        self.wait(self.at_newest, seconds)

    def wait_for_end_or_newest(self, seconds: float = 60) -> None:
        """Wait until the daemon has ended or the fleet is at the newest commit."""
        deadline = time.monotonic() + seconds
        while self.running().poll() is None and not self.at_newest():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.02)

    def sessions(self, server: str) -> set[str]:
        """The process ids on a node of what a daemon talks to there."""
        return set(self.nodes[server].run("pgrep -f 'panel-ssh-manager serve$'", check=False).stdout.split())

    def mark(self) -> int:
        """Where the log ends now."""
        return self.log.stat().st_size if self.log.exists() else 0

    def logged(self, mark: int = 0) -> str:
        """What the daemons logged since a mark."""
        return self.log.read_bytes()[mark:].decode(errors="replace")

    def until_logs(self, text: str, mark: int = 0, seconds: float = 60) -> None:
        """Wait until a daemon has logged `text` since a mark."""
        deadline = time.monotonic() + seconds
        while text not in self.logged(mark):
            assert time.monotonic() < deadline, f"{text!r} was not logged\n{self.told()}"
            time.sleep(0.02)

    def check(self, pages: Collection[str] | None = None) -> None:
        """Everything is as the newest commit says, and nothing was done that no plan named.

        `pages` are the sites that are fetched; all of them unless given.
        """
        assert self.at_newest(), self.told()
        for name in self.limits if pages is None else pages:
            self.shows(name)
        evidence.note(self.state, self.planned_steps)
        found = evidence.unplanned(self.state, self.nodes.values(), self.planned_steps)
        assert not found, f"{found}\n{self.told()}"

    def server_of(self, site: str) -> str:
        """The server that a site is declared on."""
        manifest = yaml.safe_load(self.fleet.path("Site", site).read_text())
        return str(manifest["spec"]["server"])

    def shows(self, site: str, limit: str = "") -> None:
        """The site's page says a memory limit: that of the newest commit unless given."""
        server = self.server_of(site)
        wanted = (200, f"{limit or self.limits[site]} {server}")
        wait_for(lambda: fetch(self.nodes[server], f"{site}.test") == wanted, 10)

    def upload(self, site: str) -> None:
        """The site's developer uploads a page."""
        upload(self.nodes[self.server_of(site)], self.user(site), PAGE)

    def left_behind(self) -> list[str]:
        """Processes of this stage that run still, and its socket."""
        found = [str(path) for path in self.state.glob("*.sock")]
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"RECONCILER_STATE={self.state}".encode() in environment.split(b"\0") and words:
                found.append(f"{folder.name}: {words}")
        return found

    def leaves_nothing(self) -> None:
        """After the daemon has ended in order: no process and no socket of it."""
        wait_for(lambda: not self.left_behind(), 5)

    def told(self) -> str:
        """What is known, for a failing test."""
        found = [row for query in TOLD for row in self.rows(query)]
        end = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
        return "\n".join([*(json.dumps(row) for row in found), end])

    def rows(self, query: str, *values: str) -> list[list[object]]:
        """What a query of the database says, from outside."""
        return evidence.rows(self.state, query, *values)


def alive(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
