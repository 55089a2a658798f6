"""Targets for the nodes of the lab."""

from __future__ import annotations

from lab import Node
from reconciler.kit.secret import Secret
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.target import Target


def operator(node: Node) -> Target:
    """The operator's own way in: root with the lab's key."""
    return Target(
        server="web1",
        address=node.ip,
        port=22,
        user="root",
        private_key=Secret(node.lab.key.private.read_text()),
        host_keys=(" ".join(node.lab.host_key.with_suffix(".pub").read_text().split()[:2]),),
    )


def panel_target(node: Node, panel: KeyPair) -> Target:
    """The daemon's way in, once the node is enrolled."""
    known = operator(node)
    return Target("web1", node.ip, 22, panel.private, known.host_keys)
