"""An audit log as auditd keeps it: records appended in the order of the kernel, files renamed when one is full."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PHP = "system_u:system_r:laravel_php_fpm_t:s0:c0,c100"
FILE = "system_u:object_r:site_content_t:s0:c1,c100"


def avc(
    at: float,
    serial: int,
    *,
    name: str = "web2",
    pid: int = 1042,
    comm: str = "php-fpm8.2",
    source: str = PHP,
    ino: int = 131085,
    permissive: int = 0,
) -> list[str]:
    """The records of one denial: AVC, SYSCALL, CWD, PATH, PROCTITLE, with their translations."""
    head = f"msg=audit({at:.3f}:{serial}):"
    return [
        f'type=AVC {head} avc:  denied  {{ search }} for  pid={pid} comm="{comm}" name="{name}" dev="vda" ino={ino}'
        f" scontext={source} tcontext={FILE} tclass=dir permissive={permissive}",
        f"type=SYSCALL {head} arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1={serial:x} items=1"
        f' ppid=1030 pid={pid} auid=4294967295 uid=1000 ses=4294967295 comm="{comm}" exe="/usr/sbin/php-fpm8.2"'
        f' subj={source} key=(null)\x1dARCH=x86_64 SYSCALL=openat AUID="unset" UID="web1"',
        f'type=CWD {head} cwd="/home/web1"',
        f'type=PATH {head} item=0 name="/home/{name}/x" nametype=UNKNOWN',
        f"type=PROCTITLE {head} proctitle=7068702D66706D3A20706F6F6C2070616E656C2D73686F70",
    ]


def login(at: float, serial: int) -> list[str]:
    """A record that is no denial."""
    return [
        f"type=USER_LOGIN msg=audit({at:.3f}:{serial}): pid=411 uid=0 auid=998 ses=3 msg='op=login id=998 res=success'"
    ]


@dataclass
class AuditLog:
    """The folder of a log. `size` bytes make a file full, `kept` files there are at most, the first one included."""

    folder: Path
    size: int = 8 * 1024 * 1024
    kept: int = 5
    rotations: int = field(default=0, init=False)

    @property
    def path(self) -> Path:
        return self.folder / "audit.log"

    def write(self, *lines: str | bytes, end: bytes = b"\n") -> None:
        """Append records, each in one write as auditd does it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in lines:
            with self.path.open("ab") as file:
                file.write((line.encode() if isinstance(line, str) else line) + end)
            if self.path.stat().st_size >= self.size:
                self.rotate()

    def rotate(self) -> None:
        """As auditd's shift_logs: the oldest goes, the others move up, a new one begins."""
        for number in range(self.kept - 2, 0, -1):
            old = self.folder / f"audit.log.{number}"
            if old.exists():
                old.replace(self.folder / f"audit.log.{number + 1}")
        self.path.replace(self.folder / "audit.log.1")
        self.path.touch()
        self.rotations += 1
