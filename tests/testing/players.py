"""The nodes that cases are played on: the played one, the real agent in a folder, a node of the lab."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from typing import Any, cast

from lab import Node as LabNode
from reconciler.errors import NodeFault, NodeLost
from reconciler.nodes.answers import Object
from reconciler.nodes.channel import Channel
from reconciler.nodes.conversation import Conversation
from reconciler.nodes.node import Node
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.testing.node import FakeNode
from tests.agent.auditing import AuditLog
from tests.agent.building import ME, MY_GROUP, sha
from tests.agent.talking import Here
from tests.testing.casebook import Case, Conversing

GATED = "until [ -e $root/go ]; do sleep 0.02; done"
NGINX = """
for file in $root/etc/nginx/conf.d/*.conf; do
  [ -e "$file" ] || continue
  if grep -q bad "$file"; then echo "nginx: [emerg] bad directive in $file:1" >&2; exit 1; fi
done
"""


class FakePlayer:
    """The played node. Its steps take time, which passes when nothing else is left to do."""

    def __init__(self, case: Case) -> None:
        self.node = FakeNode("198.18.0.20")
        self.node.step_seconds = 1.0
        self.node.failing = set(case.fails)
        self.node.trouble.invalid = {sha(body) for body in case.bodies.values() if b"bad" in body}

    async def connect(self) -> Conversing:
        return self.node

    async def write(self, path: str, body: bytes) -> None:
        thing = self.node.things.setdefault(
            f"file:{path}", {"path": path, "owner": ME, "group": MY_GROUP, "mode": "0644"}
        )
        thing |= {"sha256": sha(body), "size": len(body)}

    async def remove(self, path: str) -> None:
        for kind in ("file", "symlink"):
            self.node.things.pop(f"{kind}:{path}", None)

    async def mkdir(self, path: str) -> None:
        self.node.things[f"directory:{path}"] = {
            "path": path,
            "owner": ME,
            "group": MY_GROUP,
            "mode": "0755",
        }

    async def audit(self, *lines: str) -> None:
        self.node.audit.write(*lines)

    async def rotate(self) -> None:
        self.node.audit.rotate()

    async def empty(self) -> None:
        self.node.audit.empty()

    async def release(self) -> None:
        pass

    async def kill(self) -> None:
        self.node.kill_runner()


class _PipeChannel:
    """An agent at the other end of two pipes, in place of one at the other end of an SSH connection."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout

    async def send(self, message: Object) -> None:
        self._in.write(json.dumps(message).encode() + b"\n")
        await self._in.drain()

    async def receive(self) -> Object:
        line = await self._out.readline()
        if not line:
            raise await self.ended()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    async def ended(self) -> NodeFault:
        return NodeLost("web1", "the agent hung up")

    async def close(self) -> None:
        self._in.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._in.wait_closed()
        async with asyncio.timeout(20):
            await self._process.wait()


class FolderPlayer:
    """The real agent with everything that it touches below a folder; systemctl, nginx and visudo are scripts."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self._open: list[Conversation] = []
        self._log = AuditLog(here.path("/var/log/audit"))
        here.program_on_path("visudo", GATED)
        here.program_on_path("nginx", NGINX)
        here.program_on_path("systemctl", "true")

    async def connect(self) -> Conversing:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(self.here.program), "serve"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PANEL_ROOT": str(self.here.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            limit=16 * 1024 * 1024,
        )
        self._open.append(Conversation("web1", cast("Channel", _PipeChannel(process))))
        return self._open[-1]

    async def close(self) -> None:
        for conversation in self._open:
            await conversation.close()

    async def write(self, path: str, body: bytes) -> None:
        self.here.write(path, body)

    async def remove(self, path: str) -> None:
        self.here.path(path).unlink()

    async def mkdir(self, path: str) -> None:
        self.here.path(path).mkdir(parents=True, exist_ok=True)

    async def audit(self, *lines: str) -> None:
        self._log.write(*lines)

    async def rotate(self) -> None:
        self._log.rotate()

    async def empty(self) -> None:
        self._log.path.write_bytes(b"")

    async def release(self) -> None:
        self.here.write("/go", "")

    async def kill(self) -> None:
        self.here.kill_runner()


class LabPlayer:
    """A node of the lab that is enrolled, over SSH as the program does it."""

    def __init__(self, node: LabNode, target: Target) -> None:
        self.node = node
        self.target = target
        self._stack = contextlib.AsyncExitStack()

    async def connect(self) -> Conversing:
        pool = await self._stack.enter_async_context(Pool())
        managed: Node = await self._stack.enter_async_context(pool.node(self.target))
        return managed

    async def close(self) -> None:
        await self._stack.aclose()

    async def write(self, path: str, body: bytes) -> None:
        await self._run(f"printf %s {shlex.quote(body.decode())} > {shlex.quote(path)}")

    async def remove(self, path: str) -> None:
        await self._run(f"rm {shlex.quote(path)}")

    async def mkdir(self, path: str) -> None:
        await self._run(f"mkdir -p {shlex.quote(path)}")

    async def audit(self, *lines: str) -> None:
        raise AssertionError("nodes of the lab have no audit log")

    async def rotate(self) -> None:
        raise AssertionError("nodes of the lab have no audit log")

    async def empty(self) -> None:
        raise AssertionError("nodes of the lab have no audit log")

    async def release(self) -> None:
        raise AssertionError("nothing stands still in the lab")

    async def kill(self) -> None:
        raise AssertionError("no runner is killed in the lab")

    async def _run(self, command: str) -> Any:
        return await asyncio.to_thread(self.node.run, command)
