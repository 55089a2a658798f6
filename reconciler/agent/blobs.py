"""Bodies that the daemon sent: kept by sha256 in memory-backed, root-only storage until the apply that uses them ends."""

import binascii
import hashlib
import os
import time
from base64 import b64decode
from typing import Dict, Iterable

from . import atomic, fields, places
from .faults import Refusal, StepFault, cause

MAX_CHUNK = 4 * 1024 * 1024
_FORGOTTEN_SECONDS = 86400.0


def _path(sha256: str) -> str:
    return places.real("{}/{}".format(places.BLOBS, sha256))


def have(sha256: str) -> bool:
    """True when the whole body is here."""
    return os.path.exists(_path(sha256))


def open_body(sha256: str) -> int:
    """A descriptor to read the body from. Raises StepFault when the daemon has not sent it."""
    try:
        return os.open(_path(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise StepFault(
            "the body {}… is not on the node: it changed since it was asked for; prepare and apply again".format(
                sha256[:12]
            )
        ) from None


def read_body(sha256: str) -> bytes:
    """The whole body, for small ones such as passwords. Raises StepFault."""
    with os.fdopen(open_body(sha256), "rb") as source:
        return source.read(fields.MAX_BODY + 1)


class Intake:
    """Bodies on their way in during one conversation."""

    def __init__(self) -> None:
        self._open: Dict[str, int] = {}

    def add(self, sha256: str, data: str, *, more: bool) -> None:
        """Take one chunk (base64); with the last one the body is verified. Raises Refusal."""
        try:
            chunk = b64decode(data.encode("ascii"), validate=True)
        except (binascii.Error, ValueError):
            self._give_up(sha256)
            raise Refusal("bad_request", "data is not base64") from None
        if len(chunk) > MAX_CHUNK:
            self._give_up(sha256)
            raise Refusal("bad_request", "a chunk is at most {} bytes".format(MAX_CHUNK))
        try:
            size = self._append(sha256, chunk)
        except OSError as error:
            self._give_up(sha256)
            raise Refusal(
                "internal", "cannot keep a body in {}: {}".format(places.BLOBS, cause(error))
            ) from None
        if size > fields.MAX_BODY:
            self._give_up(sha256)
            raise Refusal("bad_request", "a body is at most {} bytes".format(fields.MAX_BODY))
        if not more:
            self._finish(sha256)

    def _partial(self, sha256: str) -> str:
        return "{}.part{}".format(_path(sha256), os.getpid())

    def _append(self, sha256: str, chunk: bytes) -> int:
        fd = self._open.get(sha256)
        if fd is None:
            fd = os.open(
                self._partial(sha256),
                os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            self._open[sha256] = fd
        atomic.write_all(fd, chunk)
        return os.fstat(fd).st_size

    def _finish(self, sha256: str) -> None:
        fd = self._open[sha256]
        os.lseek(fd, 0, os.SEEK_SET)
        digest = hashlib.sha256()
        for block in iter(lambda: os.read(fd, 1024 * 1024), b""):
            digest.update(block)
        if digest.hexdigest() != sha256:
            self._give_up(sha256)
            raise Refusal("bad_request", "the body does not have the sha256 that it was announced with")
        os.rename(self._partial(sha256), _path(sha256))
        os.close(self._open.pop(sha256))

    def _give_up(self, sha256: str) -> None:
        fd = self._open.pop(sha256, None)
        if fd is not None:
            os.close(fd)
            os.unlink(self._partial(sha256))

    def close(self) -> None:
        """Drop everything that did not arrive completely."""
        for sha256 in list(self._open):
            self._give_up(sha256)


def clear(used: Iterable[str]) -> None:
    """Remove the bodies that an apply used, and whatever has lain about for a day."""
    folder = places.real(places.BLOBS)
    wanted = set(used)
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            if name in wanted or os.stat(path).st_mtime < time.time() - _FORGOTTEN_SECONDS:
                os.unlink(path)
        except OSError:
            continue
