"""A conversation with the real program file, over pipes or over ssh."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from reconciler.agent import canonical

from .building import sha

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int) -> str:
    """A valid ULID for the n-th deployment of a test."""
    text = ""
    for _ in range(24):
        text = _DIGITS[number % 32] + text
        number //= 32
    return "01" + text


class Refused(Exception):
    """The agent answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.error = error
        self.code = error["code"]


class Talk:
    """One conversation; `events` holds what the last request streamed."""

    def __init__(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.events: list[dict[str, Any]] = []
        self._number = 0

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the agent hung up"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def request(self, op: str, **values: Any) -> None:
        self._number += 1
        self.send(json.dumps({"id": self._number, "op": op, **values}).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        self.events = []
        while True:
            answer = self.receive()
            assert answer["id"] == self._number, answer
            if "event" in answer:
                self.events.append(answer["event"])
            elif answer["ok"]:
                result = answer["result"]
                assert isinstance(result, dict)
                return result
            else:
                raise Refused(answer["error"])

    def ask(self, op: str, **values: Any) -> dict[str, Any]:
        self.request(op, **values)
        return self.answer()

    def blob(self, body: bytes, chunk: int = 4 * 1024 * 1024) -> None:
        parts = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
        for place, part in enumerate(parts):
            data = base64.b64encode(part).decode()
            self.ask("blob", sha256=sha(body), data=data, more=place < len(parts) - 1)

    def hand_over(self, bundle: dict[str, Any], *bodies: bytes, sections: list[str] | None = None) -> str:
        """Send a bundle and the bodies that the node wants; the digest."""
        digest = str(self.ask("bundle", bundle=bundle)["digest"])
        assert digest == canonical.digest(bundle)
        by_digest = {sha(body): body for body in bodies}
        for want in self.ask("prepare", digest=digest, sections=sections)["wants"]:
            self.blob(by_digest[want])
        return digest

    def apply(
        self,
        number: int,
        bundle: dict[str, Any],
        *bodies: bytes,
        sections: list[str] | None = None,
        fence: int = 1,
    ) -> dict[str, Any]:
        """Hand over and apply as the n-th deployment; the outcome."""
        digest = self.hand_over(bundle, *bodies, sections=sections)
        return self.ask("apply", deployment=ulid(number), digest=digest, sections=sections, fence=fence)

    def types(self, *wanted: str) -> list[tuple[str, str]]:
        """(type, key, unit or section) of the streamed events of these types."""
        return [
            (e["type"], e.get("key") or e.get("unit") or e.get("section") or e.get("name", ""))
            for e in self.events
            if e["type"] in wanted
        ]


class Here:
    """A node that is a folder: the program file, run by some Python with `PANEL_ROOT` set."""

    def __init__(self, folder: Path, program: Path, python: str) -> None:
        self.root = folder
        self.program = program
        self.python = python
        for name in (
            "etc/systemd/system",
            "etc/nginx",
            "etc/panel",
            "home",
            "var/lib",
            "run",
            "usr/bin",
            "usr/sbin",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def talk(self, **env: str) -> Talk:
        argv = [self.python, "-I", "-S", str(self.program), "serve"]
        return Talk(argv, {"PANEL_ROOT": str(self.root), "PATH": os.environ["PATH"], **env})

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-I", "-S", str(self.program), *arguments],
            env={"PANEL_ROOT": str(self.root)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, body: bytes | str) -> Path:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body.encode() if isinstance(body, str) else body)
        return target

    def program_on_path(self, name: str, script: str) -> Path:
        """A program of this node: a shell script."""
        target = self.write(f"/usr/sbin/{name}", f"#!/bin/sh\nroot={self.root}\n{script}\n")
        target.chmod(0o755)
        return target

    def runner_pid(self) -> int:
        """The process that holds the lock."""
        inode = (self.root / "var/lib/panel/lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
        raise AssertionError("nobody holds the lock")

    def kill_runner(self) -> None:
        os.kill(self.runner_pid(), signal.SIGKILL)
