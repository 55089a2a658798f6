"""A small bundle of real steps: two files, and between them a unit that starts when the test allows it."""

from __future__ import annotations

import hashlib
from typing import Any

from lab import Node
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import Event
from reconciler.nodes.node import Node as Managed

GATE = "panel-gate.service"
FIRST, SECOND = "/etc/panel/first.conf", "/etc/panel/second.conf"
BODIES = {FIRST: b"first \xff\n", SECOND: b"second\n"}


def bundle(package_manager: str = "apt", *, gate: bool = False) -> dict[str, Json]:
    steps: list[Json] = [_file(FIRST)]
    if gate:
        steps.append({"type": "unit", "key": f"unit:{GATE}", "name": GATE, "active": True, "enabled": None})
    steps.append(_file(SECOND))
    return {
        "format": 1,
        "server": "web1",
        "package_manager": package_manager,
        "sections": [{"id": "Server/web1", "needs": [], "steps": steps}],
    }


def _file(path: str) -> dict[str, Json]:
    body = BODIES[path]
    return {
        "type": "file",
        "key": f"file:{path}",
        "path": path,
        "owner": "root",
        "group": "root",
        "mode": "0644",
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
    }


def install_gate(node: Node) -> None:
    """The unit on the node: its start waits for /run/go."""
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\n"
    node.write(f"/etc/systemd/system/{GATE}", unit)
    node.run("mkdir -p /etc/panel && systemctl daemon-reload")


async def hand_over(managed: Managed, wanted: dict[str, Json]) -> str:
    """Sends the bundle and the bodies that the node lacks; gives the digest."""
    digest = await managed.send_bundle(wanted)
    by_digest = {hashlib.sha256(body).hexdigest(): body for body in BODIES.values()}
    for want in (await managed.prepare(digest)).wants:
        await managed.send_blob(by_digest[want])
    return digest


class Notes:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def at_gate(self) -> bool:
        return any(event.type == "step_started" and event.key == f"unit:{GATE}" for event in self.events)

    def complete(self) -> bool:
        """Whether every event is there exactly once, from the first to the last."""
        numbers = [event.n for event in self.events]
        return numbers == list(range(1, len(numbers) + 1)) and self.events[-1].type == "apply_done"

    def shown(self) -> list[tuple[Any, ...]]:
        return [(event.n, event.type, event.key) for event in self.events]
