"""What the demonstration stands on: the nodes, the fleet repository, and the program as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Lab, Node

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).parent / "reconciler"


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why."""


_NO_SELINUX = "  selinux: {mode: disabled} # the demo's nodes are containers, whose kernel has none\n"


@dataclass
class Stage:
    """Nodes that run, a fleet repository and a state directory."""

    lab: Lab
    nodes: dict[str, Node]
    fleet: Path
    bare: Path
    state: Path
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def program(self) -> Path:
        """The installed program."""
        return PROGRAM

    @property
    def pid(self) -> int:
        """The process whose namespaces reach the nodes."""
        return os.getpid()

    @staticmethod
    def build(lab: Lab, folder: Path) -> Stage:
        """Start a node for each server of demo/fleet; make its repository, bare as on a git server, and a clone."""
        fleet = folder / "fleet"
        shutil.copytree(ROOT / "demo/fleet", fleet)
        web1 = fleet / "servers/web1.yaml"
        web1.write_text(web1.read_text().replace("  os: alma_9\n", f"  os: alma_9\n{_NO_SELINUX}"))
        # web1 is bare; web2 has its packages already, as machines from a provider's image often do
        nodes = {"web1": lab.add("web1", "el9"), "web2": lab.add("web2", "debian12-web")}
        lab.up()
        stage = Stage(lab, nodes, fleet, folder / "infra.git", folder / "state")
        stage.git("init", "-q", "-b", "main")
        stage.git("init", "-q", "--bare", "-b", "main", str(stage.bare))
        stage.git("remote", "add", "origin", str(stage.bare))
        return stage

    def git(self, *words: str) -> str:
        """Run git in the fleet repository."""
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *words], cwd=self.fleet, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoFailed(f"git {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def commit(self, message: str) -> None:
        """Commit everything as the person that the demo's fleet declares."""
        self.git("add", "-A")
        self.git(
            *("-c", "user.name=Operator", "-c", "user.email=operator@example.test"),
            *("commit", "-q", "-m", message),
        )

    def push(self, *, refused: bool = False) -> str:
        """`git push` as a person does it; what the hooks say comes as it happens. Gives all that was printed."""
        print("\n$ git push", flush=True)
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        words = ["git", "push", "-q", "origin", "main"]
        said = []
        with subprocess.Popen(
            words, cwd=self.fleet, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                said.append(line)
                print(line, end="", flush=True)
        if (running.returncode != 0) is not refused:
            raise DemoFailed(f"git push ended with {running.returncode}")
        return "".join(said)

    def serve(self) -> None:
        """Start the daemon; its log goes to a file beside the state directory."""
        print("\n$ reconciler serve --fleet infra.git &", flush=True)
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [PROGRAM, "serve", "--fleet", str(self.bare), "--log-format", "text"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not (self.state / "daemon.sock").exists():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"the daemon did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def end_daemon(self) -> float:
        """SIGTERM, and the seconds that it took to end. DemoFailed when it is not in order."""
        if self.daemon is None:
            return 0.0
        began = time.monotonic()
        self.daemon.terminate()
        try:
            code = self.daemon.wait(15)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
            raise DemoFailed("the daemon did not end within 15 seconds") from None
        self.daemon = None
        if code:
            raise DemoFailed(f"the daemon ended with {code}:\n{self.log.read_text()[-2000:]}")
        return time.monotonic() - began

    def kill_daemon(self) -> None:
        """No process is left behind, however the demonstration ends."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.state.with_name("daemon.log")

    def environment(self) -> dict[str, str]:
        """What the program is called with."""
        return {
            **os.environ,
            "RECONCILER_STATE": str(self.state),
            "RECONCILER_FLEET": str(self.bare),
            "COLUMNS": "110",
        }

    def reconciler(self, *words: str, show: bool = True, codes: Sequence[int] = (0,)) -> str:
        """Run the installed program as a user would, and print the command and what it prints."""
        if show:
            print(f"\n$ reconciler {' '.join(words)}", flush=True)
        done = subprocess.run(
            [PROGRAM, *words],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if show or done.returncode not in codes:
            print(done.stdout, end="", flush=True)
        if done.returncode not in codes:
            raise DemoFailed(f"reconciler {' '.join(words)} ended with {done.returncode}")
        return done.stdout

    def report(self, *words: str) -> Any:
        """What the program says in JSON, unprinted."""
        return json.loads(self.reconciler(*words, "--output", "json", show=False, codes=(0, 2)))

    def fetch(self, node: Node, domain: str, path: str = "/", timeout: float = 10) -> tuple[int, str]:
        """Status and body of a page, asked for by address with the domain in the Host header."""
        request = urllib.request.Request(f"http://{node.ip}{path}", headers={"Host": domain})
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(request, timeout=timeout) as answer:
                    return answer.status, answer.read().decode("utf-8", "replace")
            except urllib.error.HTTPError as fault:
                with fault:
                    return fault.code, fault.read().decode("utf-8", "replace")
            except OSError as fault:
                if time.monotonic() > deadline:
                    raise DemoFailed(f"{domain} on {node.name} does not answer: {fault}") from fault
                time.sleep(0.2)
