"""One apply on one node: the bundle over, the bodies that it lacks, the run followed to its end and confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from reconciler import platforms
from reconciler.converge.assemble import NodeState
from reconciler.desired.kinds import Server
from reconciler.errors import AgentFault, Fenced, NodeFault, Unconfirmed
from reconciler.nodes.answers import Hello, Outcome
from reconciler.nodes.conversation import OnEvent
from reconciler.nodes.node import Node
from reconciler.platforms import Platform

_SLACK = 90.0
"""Seconds beyond the node's own time in which it has to answer again after it undid a change."""
_PAUSE = 1.0


class Unfit(NodeFault):
    """The node is not what its manifest says; nothing was changed."""


class WrongPlatform(Unfit):
    """The node runs another system."""


class SELinuxNotEnforcing(Unfit):
    """The server declares that SELinux enforces, and the node's kernel does not."""


class Patience(Protocol):
    """Seconds that an apply may take, and seconds that the node waits for a new connection to confirm what could have
    locked us out."""

    @property
    def apply_within(self) -> float:
        """For the apply, until its outcome is seen."""
        ...

    @property
    def confirm_within(self) -> int:
        """For the confirmation, counted by the node from its first change of that kind."""
        ...


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
    patience: Patience,
) -> Outcome:
    """Apply the sections `touch`, follow them to the end and confirm them. Raises NodeFault's leaves."""
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
    for last in (False, True):
        try:
            outcome = await node.apply(
                apply_id,
                digest,
                touch,
                fence,
                on_event,
                within=patience.apply_within,
                confirm_within=patience.confirm_within,
            )
            break
        except Unconfirmed as earlier:
            # a daemon died between its apply and its confirmation; that we are here over a new connection is the proof
            if last or not earlier.deployment:
                raise
            await node.confirm(earlier.deployment)
    return await confirmed(node, apply_id, outcome)


async def confirmed(node: Node, apply_id: str, outcome: Outcome) -> Outcome:
    """The outcome once nothing waits to be confirmed any more: unchanged where nothing does, else as the node tells it
    after the confirmation, or after it has undone what was not confirmed in time.

    Raises NodeFault's leaves when the node stays out of reach for longer than it takes to undo.
    """
    if outcome.confirm != "wanted":
        return outcome
    now = asyncio.get_running_loop().time
    until = now() + outcome.confirm_seconds + _SLACK
    while True:
        try:
            await node.confirm(apply_id)
            return await node.status(apply_id)
        except NodeFault as fault:
            # refused keys, a dead sudo rule and a closed port are what this waits for the end of
            hopeless = isinstance(fault, Fenced) or (
                isinstance(fault, AgentFault) and fault.code != "stale_connection"
            )
            if hopeless or now() >= until:
                raise
        await asyncio.sleep(_PAUSE)
