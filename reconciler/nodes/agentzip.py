"""The agent as one file: some lines of `sh` that find Python, then a zip archive; the same bytes on every build."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import SettingsFault

AGENT_PATH = "/usr/bin/panel-ssh-manager"
"""Where the agent is on a node; sudo allows this one path."""

PACKAGE = "panel_agent"

# Python runs a zip archive whatever stands before it, so one file (and one digest) serves the platforms that
# differ in where Python is. Enterprise Linux 8 has platform-python only. -S: nothing of site-packages is wanted.
LAUNCHER = b"""#!/bin/sh
for python in /usr/bin/python3 /usr/libexec/platform-python; do
  [ -x "$python" ] && LC_ALL=C.UTF-8 exec "$python" -I -S "$0" "$@"
done
echo "panel-ssh-manager: neither /usr/bin/python3 nor /usr/libexec/platform-python is here" >&2
exit 127
"""

MAIN = f"from {PACKAGE}.main import main\nraise SystemExit(main())\n".encode()

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


@dataclass(frozen=True)
class AgentProgram:
    """The agent's program file: its bytes and their lower-case hexadecimal sha256, which is its version."""

    data: bytes = field(repr=False)
    sha256: str


@functools.cache
def build() -> AgentProgram:
    """The program of this installation. Raises SettingsFault when its sources are missing."""
    return pack(Path(__file__).resolve().parent.parent / "agent")


def pack(sources: Path) -> AgentProgram:
    """Packs every `*.py` below `sources` as the package `panel_agent`; equal sources give equal bytes.

    Raises SettingsFault when there is no `main.py` in the folder.
    """
    if not (sources / "main.py").is_file():
        raise SettingsFault(
            f"the installation lacks the agent's sources ({sources})", hint="install the package again"
        )
    members = {"__main__.py": MAIN}
    for path in sources.rglob("*.py"):
        members[f"{PACKAGE}/{path.relative_to(sources).as_posix()}"] = path.read_bytes()
    buffer = io.BytesIO()
    buffer.write(LAUNCHER)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name], zipfile.ZIP_DEFLATED, 9)
    data = buffer.getvalue()
    return AgentProgram(data, hashlib.sha256(data).hexdigest())
