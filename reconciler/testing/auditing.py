"""The audit log of a played node: files in memory, read by the agent's own code."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.agent import auditlog, denials
from reconciler.agent.faults import Refusal
from reconciler.nodes import answers
from reconciler.nodes.answers import Denials, Object

KEPT = 5
"""Files that auditd keeps, the newest included."""


@dataclass
class AuditTrail:
    """The files of the log, oldest first, each with its inode; no file: no log."""

    machine: str
    files: list[tuple[int, bytearray]] = field(default_factory=list)
    serial: int = 0
    _inodes: int = 100

    def write(self, *lines: str) -> None:
        """Append records."""
        if not self.files:
            self._begin()
        for line in lines:
            self.files[-1][1].extend(line.encode() + b"\n")

    def rotate(self) -> None:
        """A new file begins, and of very many the oldest is gone."""
        self._begin()
        del self.files[:-KEPT]

    def empty(self) -> None:
        """Somebody empties the newest file."""
        self.files[-1][1].clear()

    def _begin(self) -> None:
        self._inodes += 1
        self.files.append((self._inodes, bytearray()))

    def deny(
        self,
        at: datetime,
        *,
        source: str = "system_u:system_r:laravel_php_fpm_t:s0:c0,c100",
        target: str = "system_u:object_r:site_content_t:s0:c1,c100",
        asked: str = "file read",
        path: str = "/home/web2/.env",
        command: str = "php-fpm",
        permissive: bool = False,
    ) -> None:
        """SELinux refuses something at this time of the node's clock, an event of two records; `asked` is a class and
        permissions."""
        tclass, _, permissions = asked.partition(" ")
        self.serial += 1
        head = f"msg=audit({at.timestamp():.3f}:{self.serial}):"
        self.write(
            f'type=AVC {head} avc:  denied  {{ {permissions} }} for  pid={1000 + self.serial} comm="{command}"'
            f' path="{path}" dev="vda" ino={self.serial} scontext={source} tcontext={target} tclass={tclass}'
            f" permissive={int(permissive)}",
            f"type=PROCTITLE {head} proctitle=706870",
        )

    def tell(self, cursor: Object | None, most: int, now: float) -> Denials:
        """The answer of the agent; `now` is the node's clock, in seconds since 1970. Raises Refusal."""
        try:
            since = None if cursor is None else auditlog.Cursor.of(dict(cursor))
        except ValueError as error:
            raise Refusal("bad_request", f"cursor {error}") from None
        if not self.files:
            return answers.denials(denials.without(since, now))
        files = [auditlog.File(io.BytesIO(bytes(text)), inode, len(text)) for inode, text in self.files]
        with auditlog.Log(files, self.machine) as log:
            return answers.denials(denials.read(log, since, most, now))
