"""One apply on one node: the bundle over, the bodies that it lacks, the run followed to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reconciler import platforms
from reconciler.converge.assemble import NodeState
from reconciler.desired.kinds import Server
from reconciler.errors import AgentFault, NodeFault
from reconciler.nodes.answers import Hello, Outcome
from reconciler.nodes.conversation import OnEvent
from reconciler.nodes.node import Node
from reconciler.platforms import Platform


class Unfit(NodeFault):
    """The node is not what its manifest says; nothing was changed."""


class WrongPlatform(Unfit):
    """The node runs another system."""


class SELinuxNotEnforcing(Unfit):
    """The server declares that SELinux enforces, and the node's kernel does not."""


async def introduce(node: Node, state: NodeState) -> Hello:
    """The introduction of a node that is what its manifest says. Raises Unfit's leaves, and what `Node.ready` raises.

    Whether a kernel enforces may change at any time, so where it matters the node is asked anew.
    """
    server = state.server
    platform = platforms.for_os(server.spec.os.value)
    hello = await node.ready()
    if platform.selinux.declared(server.spec.selinux.mode) != "disabled":
        hello = await node.hello()
    _check(hello, server, platform)
    return hello


def _check(hello: Hello, server: Server, platform: Platform) -> None:
    facts = hello.facts
    said = platforms.matches(platform, facts.os_id, facts.os_version)
    if said:
        raise WrongPlatform(
            server.name, said, hint=f"correct spec.os of {server.address}, or address another node"
        )
    declared = platform.selinux.declared(server.spec.selinux.mode)
    if declared == "disabled" or facts.selinux == "enforcing":
        return
    if declared == "enforcing" or facts.selinux == "disabled":
        said = f"SELinux is {facts.selinux} on the node, the manifest says {declared}"
        raise SELinuxNotEnforcing(server.name, said, hint=_TO_DO[facts.selinux])


_TO_DO: dict[str, str] = {
    "permissive": "run `setenforce 1` on the node and set SELINUX=enforcing in /etc/selinux/config, or change spec.selinux.mode",
    "disabled": "set SELINUX=permissive in /etc/selinux/config, boot once to label the files, then enforcing; or set spec.selinux.mode to disabled",
}


def _not_here(state: NodeState, sha256: str) -> NodeFault:
    """Why a body that the node asks for cannot be sent."""
    for section in state.bundle.sections:
        for step in section.steps:
            if step.type == "release" and step.params.get("sha256") == sha256:
                commit = str(step.params.get("commit"))[:12]
                said = f"the archive of commit {commit} of {section.id} is not kept here any more"
                hint = "have it made again: reconciler plan --refresh"
                return AgentFault(state.server.name, said, hint=hint)
    return AgentFault(state.server.name, f"the agent wants a body that is not in the bundle: {sha256}")


async def apply(
    node: Node,
    state: NodeState,
    touch: Sequence[str],
    *,
    apply_id: str,
    fence: int,
    on_event: OnEvent,
    within: float,
) -> Outcome:
    """Apply the sections `touch` and follow them to the end. `within` is in seconds. Raises NodeFault's leaves."""
    digest = await node.send_bundle(state.bundle.to_json())
    if digest != state.bundle.digest:
        raise AgentFault(state.server.name, f"the agent computed another digest for the bundle: {digest}")
    prepared = await node.prepare(digest, touch)
    bodies = state.bundle.bodies()
    for sha256 in prepared.wants:
        body = bodies.get(sha256)
        content = body.content if body is not None else await asyncio.to_thread(state.archive, sha256)
        if content is None:
            raise _not_here(state, sha256)
        await node.send_blob(content)
    return await node.apply(apply_id, digest, touch, fence, on_event, within=within)
