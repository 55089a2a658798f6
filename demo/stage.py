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


@dataclass
class Stage:
    """Nodes that run, a fleet repository and a state directory."""

    lab: Lab
    nodes: dict[str, Node]
    fleet: Path
    state: Path

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
        """Start a node for each server of the example fleet and make the repository from it."""
        fleet = folder / "fleet"
        shutil.copytree(ROOT / "example-infra", fleet)
        # web1 is bare; web2 has its packages already, as machines from a provider's image often do
        nodes = {"web1": lab.add("web1", "el9"), "web2": lab.add("web2", "debian12-web")}
        lab.up()
        stage = Stage(lab, nodes, fleet, folder / "state")
        stage.git("init", "-q", "-b", "main")
        stage.commit("Declare the fleet")
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
        """Commit everything as the person that the example fleet declares."""
        self.git("add", "-A")
        self.git(
            *("-c", "user.name=Operator", "-c", "user.email=operator@example.test"),
            *("commit", "-q", "-m", message),
        )

    def reconciler(self, *words: str, show: bool = True, codes: Sequence[int] = (0,)) -> str:
        """Run the installed program as a user would, and print the command and what it prints."""
        if show:
            print(f"\n$ reconciler {' '.join(words)}", flush=True)
        env = {
            **os.environ,
            "RECONCILER_STATE": str(self.state),
            "RECONCILER_FLEET": str(self.fleet),
            "COLUMNS": "110",
        }
        done = subprocess.run(
            [PROGRAM, *words],
            env=env,
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
