"""The agent replaces itself."""

import binascii
import hashlib
import os
import stat
import sys
from base64 import b64decode
from contextlib import suppress
from typing import Any, Dict

from . import atomic, launch, process, selinux
from .faults import Refusal, cause


def own_digest() -> str:
    """sha256 of the zip that this process was started from; an empty text when it runs from source."""
    try:
        with open(launch.program(), "rb") as source:
            return hashlib.sha256(source.read()).hexdigest()
    except IsADirectoryError:
        return ""


def upgrade(data: Any, sha256: str) -> Dict[str, Any]:
    """Put a new zip in this one's place, after it has shown that it starts here. Raises Refusal."""
    if not isinstance(data, str):
        raise Refusal("bad_request", "data is not a text")
    try:
        body = b64decode(data.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("bad_request", "data is not base64") from None
    if hashlib.sha256(body).hexdigest() != sha256:
        raise Refusal("bad_request", "data does not have the announced sha256")
    program = launch.program()
    if not os.path.isfile(program):
        raise Refusal("internal", "this agent runs from source and cannot replace itself")
    fresh = os.path.join(os.path.dirname(program), ".{}.new".format(os.path.basename(program)))
    try:
        _write(fresh, body, program)
        said = process.run([sys.executable, "-I", "-S", fresh, "version"], timeout=30)
        if not said.ok() or said.out.strip() != sha256:
            os.unlink(fresh)
            raise Refusal(
                "bad_request", "the new agent does not start on this node: " + said.reason("version")
            )
        os.rename(fresh, program)
        atomic.sync_folder(os.path.dirname(program))
    except OSError as error:
        raise Refusal("internal", "cannot replace {}: {}".format(program, cause(error))) from None
    return {"agent": sha256}


def _write(path: str, body: bytes, becomes: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    with selinux.creating(becomes, stat.S_IFREG):  # of another type it would not lead into the agent's domain
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
    try:
        atomic.write_all(fd, body)
        os.fchmod(fd, 0o755)
        os.fsync(fd)
    finally:
        os.close(fd)
