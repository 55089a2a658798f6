"""What `hook install` leaves for the receive hooks, what git tells them, and the word to the daemon. Quick to import."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reconciler.errors import SettingsFault

if TYPE_CHECKING:  # reading manifests is slow to import
    from reconciler.desired.signatures import Policy

SOCKET = "daemon.sock"
Told = Literal["told", "absent", "denied"]


@dataclass(frozen=True)
class Watch:
    """What a fleet follows of the repository: its branch, the folder of the manifests, who must sign."""

    fleet: str = "main"
    branch: str = "main"
    path: str = ""
    policy: Policy = "none"
    signers: Path | None = None

    @property
    def ref(self) -> str:
        """The branch's full name."""
        return f"refs/heads/{self.branch}"


@dataclass(frozen=True)
class HookSettings:
    """What `hook install` wrote beside the hooks. `follow` is how long to show progress after a push, in seconds."""

    state: Path | None = None
    follow: float = 20.0
    watches: tuple[Watch, ...] = (Watch(),)


@dataclass(frozen=True)
class Push:
    """One ref of a push: full ids, "" for none (the ref is made, or deleted)."""

    ref: str
    old: str
    new: str


def pushes(lines: Iterable[str]) -> tuple[Push, ...]:
    """What git tells a hook on its standard input: `old new ref`, one line a ref (githooks(5))."""
    found = []
    for line in lines:
        words = line.rstrip("\n").split(" ", 2)
        if len(words) == 3:
            old, new = (word if word.strip("0") else "" for word in words[:2])
            found.append(Push(words[2], old, new))
    return tuple(found)


def read_settings(path: Path) -> HookSettings:
    """What `hook install` wrote. SettingsFault when it cannot be read."""
    hint = "run `reconciler hook install` for this repository again"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        watches = tuple(
            Watch(
                w["fleet"], w["branch"], w["path"], w["policy"], Path(w["signers"]) if w["signers"] else None
            )
            for w in value["watches"]
        )
        return HookSettings(Path(value["state"]) if value["state"] else None, float(value["follow"]), watches)
    except OSError as fault:
        raise SettingsFault(f"{path} cannot be read: {fault.strerror}", hint=hint) from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise SettingsFault(f"{path} is damaged", hint=hint) from fault


def written_settings(settings: HookSettings) -> str:
    """The same as a file's text."""
    watches = [
        {
            "fleet": w.fleet,
            "branch": w.branch,
            "path": w.path,
            "policy": w.policy,
            "signers": str(w.signers or ""),
        }
        for w in settings.watches
    ]
    value: Mapping[str, object] = {
        "state": str(settings.state or ""),
        "follow": settings.follow,
        "watches": watches,
    }
    return json.dumps(value, indent=2) + "\n"


def poke(state: Path, ref: str, commit: str) -> Told:
    """Tells the daemon on its socket in the state directory to look at a branch. Never waits, never raises for its absence."""
    message = json.dumps({"verb": "look", "ref": ref, "commit": commit}).encode("utf-8")
    try:
        # By the folder's descriptor: a socket's address has at most 107 characters, a path may have more.
        folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        return "denied" if fault.errno in (errno.EACCES, errno.EPERM) else "absent"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.settimeout(0)
            with contextlib.suppress(BlockingIOError):  # others have told it already
                line.sendto(message, f"/proc/self/fd/{folder}/{SOCKET}")
    except PermissionError:
        return "denied"
    except OSError:
        return "absent"
    finally:
        os.close(folder)
    return "told"
