"""The real daemon with the virtual machine as its only server."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.vm import Machine
from tests.e2e import harness
from tests.e2e.harness import wait_for
from tests.faults import stage as faults

SERVER = "web1"


@dataclass
class Stage(faults.Stage):
    """A fleet whose server is the machine. Its daemon speaks to the machine's forwarded port of sshd."""

    machine: Machine | None = field(default=None, repr=False)

    @classmethod
    @contextmanager
    def over(cls, machine: Machine, folder: Path) -> Iterator[Stage]:
        """A stage whose server is declared and enrolled. Its processes end with the block."""
        stage = cls(harness.Fleet(folder / "fleet"), folder / "state", within="10m", machine=machine)
        try:
            stage.enroll_machine()
            yield stage
        finally:
            stage.end()
            if stage.warm is not None:
                stage.warm.close()

    def enroll_machine(self) -> None:
        """As an operator does it."""
        assert self.machine is not None
        self.fleet.git("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.run("init")
        self.settings.write_text(faults.SETTINGS.format(bare=self.bare, within=self.within))
        self.fleet.put("SSHKey", "fleet")
        self.fleet.put(
            "Server",
            SERVER,
            address=self.machine.address,
            port=self.machine.ssh_port,
            os="debian_12",
            sshKey="fleet",
            software={"php": ["8.2"]},
            databaseEngines=["mariadb"],
            selinux={"mode": "enforcing"},
        )
        self.push("Declare the server")
        identity = str(self.machine.identity)
        self.run("servers", "enroll", SERVER, "--identity", identity, "--accept-host-key")

    def get(self, site: str, path: str = "/", timeout: float = 30) -> tuple[int, str]:
        """Status and body of a page of a site."""
        assert self.machine is not None
        address = f"http://127.0.0.1:{self.machine.http_port}{path}"
        request = urllib.request.Request(address, headers={"Host": f"{site}.test"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, fault.read().decode("utf-8", "replace")

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """What becomes of the fleet and of the daemon's records in the block is forgotten after it; no daemon serves then."""
        mine = {place.name: place for place in (self.fleet.folder, self.bare, self.state)}
        kept = self.state.with_name("kept")
        kept.mkdir()
        for place in mine.values():
            subprocess.run(["cp", "-a", place, kept], check=True)  # sockets too, which shutil does not copy
        try:
            yield
        finally:
            self.end()  # of a test that failed
            for name, place in mine.items():
                shutil.rmtree(place)
                (kept / name).rename(place)
            kept.rmdir()

    def reach(self, seconds: float = 900) -> None:
        """Wait until the fleet is at the newest commit; an emulated machine takes its time."""
        super().reach(seconds)


__all__ = ["SERVER", "Stage", "wait_for"]
