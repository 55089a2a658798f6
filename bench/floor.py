"""The floor: what any tool over SSH must at least pay for the same nodes and the same files."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Iterable, Mapping

from reconciler.blueprint.model import Bundle
from reconciler.nodes.connection import Connection
from reconciler.nodes.target import Target

_HASH = "xargs -0 sha256sum >/dev/null"


def files(bundle: Bundle) -> dict[str, bytes]:
    """Path to content of every file that a bundle puts on its node."""
    return {
        step.target: step.body.content
        for section in bundle.sections
        for step in section.steps
        if step.type == "file" and step.body is not None and step.body.content is not None
    }


def services(bundle: Bundle) -> list[str]:
    """The units of the sites that a bundle starts."""
    return [
        step.target
        for section in bundle.sections
        for step in section.steps
        if step.type == "unit" and section.id.startswith("Site/")
    ]


class Floor:
    """Root logins to the same nodes, without the agent."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._targets = list(targets)
        self._open: dict[str, Connection] = {}

    async def open(self) -> None:
        """Connect to every node and keep the connections."""
        made = await asyncio.gather(*(Connection.open(target) for target in self._targets))
        self._open = {target.server: c for target, c in zip(self._targets, made, strict=True)}

    async def close(self) -> None:
        """End the connections."""
        await asyncio.gather(*(connection.close() for connection in self._open.values()))

    async def true_kept(self) -> None:
        """`true` on all nodes over the kept connections."""
        await asyncio.gather(*(c.run("true", within=60) for c in self._open.values()))

    async def true_fresh(self) -> None:
        """`true` on all nodes, each over a new connection."""

        async def one(target: Target) -> None:
            async with await Connection.open(target) as connection:
                await connection.run("true", within=60)

        await asyncio.gather(*(one(target) for target in self._targets))

    async def hash_kept(self, paths: Mapping[str, Iterable[str]]) -> None:
        """One exec a node that hashes the same files, over the kept connections."""
        await asyncio.gather(
            *(self._checked(c, _HASH, "\0".join(paths[name]).encode()) for name, c in self._open.items())
        )

    async def hash_fresh(self, paths: Mapping[str, Iterable[str]]) -> None:
        """The same over new connections."""

        async def one(target: Target) -> None:
            async with await Connection.open(target) as connection:
                await self._checked(connection, _HASH, "\0".join(paths[target.server]).encode())

        await asyncio.gather(*(one(target) for target in self._targets))

    async def write_fresh(self, contents: Mapping[str, Mapping[str, bytes]], users: int) -> None:
        """Over new connections, one exec a node that makes as many users and writes the same files below a scratch folder.

        It starts no unit and reloads nothing, which a real converge must do as well: see `start`.
        """

        async def one(target: Target) -> None:
            script = f"for i in $(seq {users}); do useradd -m floor$i; done; mkdir -p /var/tmp/floor && tar -x -C /var/tmp/floor"
            async with await Connection.open(target) as connection:
                await self._checked(connection, script, _tar(contents[target.server]))

        await asyncio.gather(*(one(target) for target in self._targets))

    async def stop(self, units: Mapping[str, Iterable[str]]) -> None:
        """Stop and disable units, over the kept connections."""
        await self._on_each(units, "systemctl -q disable --now {}")

    async def start(self, units: Mapping[str, Iterable[str]]) -> None:
        """What a script does once files are in place: enable and start units, test and reload the web server, and
        restart the database server for its new settings."""
        script = "systemctl -q enable --now {} && nginx -q -t && systemctl reload nginx && systemctl restart mariadb"
        await self._on_each(units, script)

    async def _on_each(self, units: Mapping[str, Iterable[str]], script: str) -> None:
        await asyncio.gather(
            *(self._checked(c, script.format(" ".join(units[name])), b"") for name, c in self._open.items())
        )

    @staticmethod
    async def _checked(connection: Connection, command: str, stdin: bytes) -> None:
        done = await connection.run(command, stdin=stdin, within=300)
        if done.exit_status != 0:
            raise RuntimeError(f"the floor's command failed: {done.stderr.text[-300:]}")


def _tar(contents: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in contents.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
