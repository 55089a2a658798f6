"""Scenes with one played node and a connection to it, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reconciler.kit.secret import Secret
from reconciler.nodes.answers import Event, Outcome
from reconciler.nodes.target import Target
from reconciler.testing.builders import HOST_KEY
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakeLink, FakePool
from reconciler.testing.simulated import run
from tests.agent.building import bundle, directory, file, section
from tests.agent.talking import ulid

BODY = b"body\n"
STEPS = (
    directory("/etc/panel/fpm"),
    file("/etc/panel/one.conf", BODY),
    file("/etc/panel/two.conf", BODY),
)
WANTED = bundle(
    section("Server/web1", *STEPS), section("Site/shop", directory("/etc/panel/shop"), needs=("Server/web1",))
)
TARGET = Target("web1", "198.18.0.1", 22, Secret("key"), (HOST_KEY,))
Scene = Callable[[FakeNode, FakeLink], Awaitable[None]]


def play(scene: Scene, *, step_seconds: float = 1.0) -> FakeNode:
    """Play a scene with one node and a connection to it, in simulated time."""
    node = FakeNode(TARGET.address)
    node.step_seconds = step_seconds

    async def main() -> None:
        async with FakePool({node.address: node}) as pool, pool.node(TARGET) as link:
            await scene(node, link)

    run(main())
    return node


def now() -> float:
    return asyncio.get_running_loop().time()


async def hand_over(link: FakeLink) -> str:
    digest = await link.send_bundle(WANTED)
    for _ in (await link.prepare(digest)).wants:
        await link.send_blob(BODY)
    return digest


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.begun = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event.type == "step_started":
            self.begun.set()

    def complete(self) -> bool:
        numbers = [event.n for event in self.events]
        return numbers == list(range(1, len(numbers) + 1)) and self.events[-1].type == "apply_done"


async def begin(link: FakeLink, told: Told, *, within: float = 600) -> asyncio.Task[Outcome]:
    """Start an apply that stands in its first step."""
    digest = await hand_over(link)
    task = asyncio.create_task(link.apply(ulid(1), digest, None, 1, told, within=within))
    await told.begun.wait()
    return task
