"""A fleet with one node that is played, and the program run in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reconciler.app import applying, drifting
from reconciler.cli.main import program
from reconciler.store import open_state
from reconciler.store.queries import servers
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakePool
from tests.e2e.harness import Fleet

ADDRESS = "198.18.0.99"
SHOP = """\
apiVersion: reconciler/v1
kind: Site
metadata:
  name: shop
spec:
  server: web1
  domain: shop.test
  phpVersion: "8.2"
"""


class Place:
    """A committed fleet, its state and its one node, and the program run in this process."""

    def __init__(self, folder: Path, node: FakeNode) -> None:
        self.state, self.fleet = folder / "state", Fleet(folder / "fleet")
        self.node = node
        self.run("init")
        self.fleet.put("SSHKey", "fleet")
        self.fleet.put(
            "Server", "web1", address=ADDRESS, os="debian_12", sshKey="fleet", software={"php": ["8.2"]}
        )
        self.write("shop.yaml", SHOP)
        with open_state(self.state) as store:
            fields = servers.ServerFields(ip_address=ADDRESS, os_version="debian_12")
            store.write(
                lambda tx: servers.set_host_keys(
                    tx, servers.upsert(tx, "web1", fields).id, ["ssh-ed25519 AAAA"]
                )
            )
        self.apply()

    def run(self, *words: str, code: int = 0) -> Result:
        where = {"RECONCILER_STATE": str(self.state), "RECONCILER_FLEET": str(self.fleet.folder)}
        done = CliRunner().invoke(program, list(words), env=where, standalone_mode=False)
        if done.exception is not None and code == 0:
            raise done.exception
        assert (1 if done.exception else done.return_value or 0) == code, done.output
        return done

    def write(self, name: str, text: str) -> None:
        (self.fleet.folder / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.fleet.folder / name).read_text(encoding="utf-8")

    def apply(self) -> None:
        self.fleet.commit()
        self.run("apply", "--yes", "--no-refresh")

    def paste(self, rules: str) -> None:
        """Do what the rules say: put each part below the line that it names."""
        for part in rules.split("# ")[1:]:
            head, _, body = part.partition("\n")
            path, line, _ = head.split("paste below ")[1].split(",")[0].split(":")
            lines = self.read(path).splitlines(keepends=True)
            lines.insert(int(line), body)
            self.write(path, "".join(lines))

    def apply_record_only(self) -> None:
        """Apply a commit that must touch no node."""
        applies = self.node.applied
        self.apply()
        assert self.node.applied == applies

    def condition(self, address: str, kind: str) -> str:
        """The status of a condition; empty when there is none."""
        (row,) = json.loads(self.run("status", address, "--output", "json").stdout)
        return next((c["status"] for c in row["conditions"] if c["type"] == kind), "")

    def drift(self, *words: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = json.loads(self.run("drift", "--output", "json", *words).stdout)
        return found


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A fleet that is applied, whose only node the program finds in place of a real one."""
    node = FakeNode(ADDRESS)
    for module in (applying, drifting):
        monkeypatch.setattr(module, "Pool", lambda: FakePool({ADDRESS: node}))
    return Place(folder, node)
