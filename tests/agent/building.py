"""Bundles and steps for tests of the agent."""

from __future__ import annotations

import grp
import gzip
import hashlib
import io
import os
import pwd
import tarfile
from typing import Any

Step = dict[str, Any]
ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def file(path: str, body: bytes, *, mode: str = "0644", **more: Any) -> Step:
    owned = {"owner": ME, "group": MY_GROUP, "mode": mode, "sha256": sha(body), "size": len(body)}
    return {"type": "file", "key": f"file:{path}", "path": path, **owned, **more}


def directory(path: str, *, mode: str = "0755", **more: Any) -> Step:
    owned = {"owner": ME, "group": MY_GROUP, "mode": mode}
    return {"type": "directory", "key": f"directory:{path}", "path": path, **owned, **more}


def symlink(path: str, target: str) -> Step:
    return {"type": "symlink", "key": f"symlink:{path}", "path": path, "target": target}


def package(name: str, state: str = "present") -> Step:
    return {"type": "package", "key": f"package:{name}", "name": name, "state": state}


def unit(name: str, **more: Any) -> Step:
    return {"type": "unit", "key": f"unit:{name}", "name": name, **more}


def user(name: str, **more: Any) -> Step:
    home = {"home": f"/home/{name}", "home_mode": "0710", "home_group": name, "shell": "/bin/sh"}
    return {"type": "user", "key": f"user:{name}", "name": name, **home, **more}


def gone(step: Step) -> Step:
    """The removal of what a step makes."""
    kept = {"type", "key", "name", "path", "home", "host", "database", "user", "role"}
    return {**{name: value for name, value in step.items() if name in kept}, "state": "absent"}


def section(name: str, *steps: Step, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"id": name, "needs": list(needs), "steps": list(steps)}


def bundle(*sections: dict[str, Any], package_manager: str = "apt") -> dict[str, Any]:
    return {"format": 1, "server": "web1", "package_manager": package_manager, "sections": list(sections)}


def archive(**files: str | None) -> bytes:
    """An archive as the daemon makes them; a text that begins with `-> ` is a link, and `__` in a name a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            body = (text or "").encode()
            if text is not None and text.startswith("-> "):
                info.type, info.linkname, body = tarfile.SYMTYPE, text[3:], b""
            info.size = len(body)
            made.addfile(info, io.BytesIO(body))
    return gzip.compress(packed.getvalue(), mtime=0)
