"""Commands in the machine over one kept ssh connection: a new one takes seconds there, a command does not."""

from __future__ import annotations

import json
import select
import subprocess
import time
from pathlib import Path

from ..host import LabError, clean_env

# Runs in the machine, below sshd, as the administrator who logged in.
LOOP = """
import json, subprocess, sys
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        done = subprocess.run(["/bin/sh", "-c", asked["command"]], input=asked["stdin"].encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=asked["timeout"])
        said = {"code": done.returncode, "out": done.stdout.decode(errors="replace"),
                "err": done.stderr.decode(errors="replace")}
    except subprocess.TimeoutExpired:
        said = {"code": None, "out": "", "err": ""}
    print(json.dumps(said), flush=True)
"""

Completed = subprocess.CompletedProcess[str]


def argv(port: int, image: Path, *options: str, user: str = "root") -> list[str]:
    """The OpenSSH client's argument list, up to where the remote command goes; `image` is the disk's folder."""
    fixed = (
        *("BatchMode=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR", "ConnectTimeout=30"),
        *(f"UserKnownHostsFile={image}/known_hosts", "HostKeyAlias=vm", "IdentitiesOnly=yes"),
    )
    words = ["ssh", "-F", "none", "-p", str(port), "-i", str(image / "id")]
    for option in (*options, *fixed):
        words += ["-o", option]
    return [*words, f"{user}@127.0.0.1"]


class Shell:
    """A connection that takes commands. Raises LabError when there is no way in within `timeout` seconds."""

    def __init__(self, port: int, image: Path, timeout: float) -> None:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv(port, image), f"exec python3 -u -c '{LOOP}'"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_env(),
            bufsize=0,
        )
        self._heard = b""
        try:
            self._line(timeout)
        except LabError:
            self.close()
            raise

    def run(self, command: str, stdin: str, timeout: float) -> Completed:
        """What a shell command printed. Raises LabError when it does not end in `timeout` seconds."""
        assert self._process.stdin is not None
        asked = {"command": command, "stdin": stdin, "timeout": timeout}
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        except OSError as error:
            raise LabError(f"the connection to the machine is lost: {error}") from error
        said = json.loads(self._line(timeout + 30))
        if said["code"] is None:
            raise LabError(f"vm$ {command[:300]}: no end within {timeout} s")
        return Completed(command, said["code"], said["out"], said["err"])

    def _line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise LabError(f"the machine says nothing for {timeout} s")
            more = self._process.stdout.read(1 << 16)
            if not more:
                assert self._process.stderr is not None
                said = self._process.stderr.read(2000).decode(errors="replace").strip()
                raise LabError(f"the connection to the machine ended: {said}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def close(self) -> None:
        """Ends the connection."""
        self._process.kill()
        self._process.communicate()
