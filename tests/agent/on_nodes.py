"""The agent on nodes of the lab: installed over ssh, talked to over ssh, as root."""

from __future__ import annotations

import subprocess

from lab import Node
from reconciler.nodes import agentzip

from .talking import Talk

PROGRAM = "/usr/bin/panel-ssh-manager"


def install(node: Node) -> None:
    """Copy the program file to the node."""
    copy = f"cat > {PROGRAM} && chmod 755 {PROGRAM}"
    subprocess.run([*node.ssh_argv(), copy], input=agentzip.build().data, check=True, timeout=60)


def talk(node: Node) -> Talk:
    """A conversation with an agent that is installed."""
    return Talk([*node.ssh_argv(), f"{PROGRAM} serve"])


def family(node: Node) -> str:
    """`el` or `debian`."""
    return "el" if node.image.name.startswith("el") else "debian"


def manager(node: Node) -> str:
    """The package manager of a node's bundles."""
    return "dnf" if family(node) == "el" else "apt"


def messages(outcome: dict[str, object]) -> str:
    """Every section's message."""
    sections = outcome["sections"]
    assert isinstance(sections, dict)
    return "\n".join(str(section["message"]) for section in sections.values())
