"""What a scripted agent says (see peer.py), and where it writes what it was asked."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.nodes.agentzip import AgentProgram

PROGRAM = AgentProgram(b"#!/bin/sh\nnew\n", "a" * 64)
DIGEST = "b" * 64
DEPLOYMENT = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

FACTS = {
    "os_id": "almalinux",
    "os_version": "9.4",
    "os_like": "rhel centos fedora",
    "hostname": "web1",
    "kernel": "5.14.0",
    "arch": "x86_64",
    "package_manager": "dnf",
    "selinux": "enforcing",
    "boot_id": "1",
    "machine_id": "2",
    "of_tomorrow": True,
}

Act = dict[str, Any]


def ok(result: Any) -> Act:
    return {"send": {"ok": True, "result": result}}


def no(code: str, **more: Any) -> Act:
    return {"send": {"ok": False, "error": {"code": code, "message": f"it is {code}", **more}}}


def hello(agent: str = PROGRAM.sha256, **more: Any) -> list[Act]:
    usual = {
        "protocol": 1,
        "agent": agent,
        "python": "3.9.18",
        "facts": FACTS,
        "bundle": None,
        "running": None,
    }
    return [ok({**usual, "fence": 0, **more})]


def event(n: int, **more: Any) -> Act:
    return {"send": {"event": {"n": n, "at": "2026-01-31T12:00:00Z", "type": "log", **more}}}


def outcome(state: str = "succeeded", deployment: str = DEPLOYMENT, **more: Any) -> Act:
    sections = {"Site/shop": {"state": "succeeded", "changed": 2, "kept": ["package:nginx"]}}
    value = {"deployment": deployment, "state": state, "sections": sections, "reloaded": ["nginx.service"]}
    return ok({**value, **more})


@dataclass
class Play:
    """A folder with plays. `then` adds the play of the next process."""

    folder: Path
    count: int = field(default=0)

    @property
    def command(self) -> str:
        words = [sys.executable, "-I", str(Path(__file__).with_name("peer.py")), str(self.folder)]
        return "exec " + shlex.join(words)

    def then(self, *requests: list[Act]) -> Play:
        self.count += 1
        (self.folder / f"{self.count}.json").write_text(json.dumps(requests))
        return self

    def asked(self) -> list[dict[str, Any]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def ops(self) -> list[str]:
        return [request["op"] for request in self.asked()]
