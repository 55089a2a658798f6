"""One apply on one node: the bundle over, the bodies that it lacks, the run followed to its end."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler import platforms
from reconciler.converge.assemble import NodeState
from reconciler.errors import AgentFault, NodeFault
from reconciler.nodes.answers import Hello, Outcome
from reconciler.nodes.conversation import OnEvent
from reconciler.nodes.node import Node


class WrongPlatform(NodeFault):
    """The node runs another system than its manifest says; nothing was changed."""


def check_platform(hello: Hello, state: NodeState) -> None:
    """Raise WrongPlatform when the node's real system is not the manifest's."""
    server = state.server
    said = platforms.matches(
        platforms.for_os(server.spec.os.value), hello.facts.os_id, hello.facts.os_version
    )
    if said:
        raise WrongPlatform(
            server.name, said, hint=f"correct spec.os of {server.address}, or address another node"
        )


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
        if body is None or body.content is None:
            raise AgentFault(state.server.name, f"the agent wants a body that is not in the bundle: {sha256}")
        await node.send_blob(body.content)
    return await node.apply(apply_id, digest, touch, fence, on_event, within=within)
