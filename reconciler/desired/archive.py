"""The archive of one commit, as nodes unpack it: a tar of its files, compressed, the same bytes for the same commit.

Made from the mirror's objects, never from a checkout: nothing of the repository (attributes, filters, hooks) has a say in it.
What could lead out of a release, or would not be what its author means, is refused by name.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from reconciler.desired import mirror_folder
from reconciler.desired.git_process import Bounds
from reconciler.desired.problems import printable
from reconciler.errors import SourceFault

MOST_PACKED = 64 * 1024 * 1024
"""Bytes of an archive: the largest body that a node takes."""
MOST_UNPACKED = 1024 * 1024 * 1024
MOST_FILES = 200_000
_PORTION = 32 * 1024 * 1024
_SECONDS = 300.0
_LFS = b"version https://git-lfs.github.com/spec/"
_LINK, _MODULE, _RUN = b"120000", b"160000", b"100755"


@dataclass(frozen=True)
class Packed:
    """An archive: digest and size of its bytes, and where it is."""

    sha256: str
    size: int
    path: Path


@dataclass(frozen=True)
class _File:
    mode: bytes
    blob: bytes
    size: int
    name: str


def folder_in(state: Path) -> Path:
    """The folder of archives in a state directory."""
    return state / "applications" / "archives"


def kept(state: Path, sha256: str) -> bytes | None:
    """The archive with this digest, None when it is not kept."""
    try:
        return (folder_in(state) / f"{sha256}.tar.gz").read_bytes()
    except OSError:
        return None


def pack(mirror: Path, commit: str, folder: Path) -> Packed:
    """Make the archive of a commit that the mirror holds, in `folder`, under its digest.

    SourceFault for a commit that cannot be deployed, and when the folder cannot be written.
    """
    files = _listed(mirror, commit)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as made:
            try:
                _write(mirror, commit, files, made)
                made.flush()
                os.fsync(made.fileno())
                size = made.tell()
                made.seek(0)
                sha256 = hashlib.file_digest(made, "sha256").hexdigest()
                target = folder / f"{sha256}.tar.gz"
                Path(made.name).replace(target)
            except BaseException:
                Path(made.name).unlink(missing_ok=True)
                raise
    except OSError as fault:
        raise SourceFault(f"the archive of {commit[:12]} cannot be written: {fault.strerror}") from fault
    return Packed(sha256, size, target)


def _write(mirror: Path, commit: str, files: Sequence[_File], target: IO[bytes]) -> None:
    with (
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6, mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for file, body in _bodies(mirror, files):
            info = tarfile.TarInfo(file.name)
            info.mode = 0o755 if file.mode == _RUN else 0o644
            if file.mode == _LINK:
                info.type, info.linkname = tarfile.SYMTYPE, _target(commit, file.name, body)
                made.addfile(info)
                continue
            if body.startswith(_LFS) and len(body) < 1024:
                hint = "commit the file itself; Git LFS is not fetched"
                raise SourceFault(f"commit {commit[:12]}: {file.name} is a pointer of Git LFS", hint=hint)
            info.size = len(body)
            made.addfile(info, io.BytesIO(body))
            if target.tell() > MOST_PACKED:
                break
    size = target.tell()
    if size > MOST_PACKED:
        raise SourceFault(
            f"commit {commit[:12]} has more than {MOST_PACKED // 1024**2} MiB when it is packed, more than a node takes",
            hint="keep large files elsewhere, or have a build command fetch them",
        )


def _listed(mirror: Path, commit: str) -> list[_File]:
    ended = mirror_folder.ask(
        mirror, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, bounds=Bounds(_SECONDS, 256 * 1024 * 1024)
    )
    if ended.status != 0 or ended.stopped:
        raise SourceFault(
            f"commit {commit[:12]} is not in the mirror", hint="look again: reconciler plan --refresh"
        )
    files = [_file(commit, line) for line in ended.output.split(b"\0") if line]
    if not files:
        raise SourceFault(f"commit {commit[:12]} has no files", hint="push the application to the branch")
    if len(files) > MOST_FILES or sum(file.size for file in files) > MOST_UNPACKED:
        said = f"commit {commit[:12]} has more than {MOST_FILES} files or {MOST_UNPACKED // 1024**2} MiB"
        raise SourceFault(said, hint="is this the right repository?")
    return files


def _file(commit: str, line: bytes) -> _File:
    head, _, raw = line.partition(b"\t")
    mode, _, blob, size = head.split()
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        shown = printable(raw.decode("utf-8", "replace"))
        raise SourceFault(
            f"commit {commit[:12]}: the name {shown} is not UTF-8", hint="rename the file"
        ) from None
    if not name.isprintable() or any(part in ("", ".", "..", ".git") for part in name.split("/")):
        raise SourceFault(
            f"commit {commit[:12]}: a file is named {printable(name)}, which is not taken",
            hint="rename the file",
        )
    if mode == _MODULE:
        hint = "add its files to the repository, or have a build command fetch them"
        raise SourceFault(
            f"commit {commit[:12]}: {name} is a submodule, and submodules are not fetched", hint=hint
        )
    return _File(mode, blob, int(size), name)


def _target(commit: str, name: str, body: bytes) -> str:
    """What a link points at, which must be in the same release."""
    try:
        target = body.decode("utf-8")
    except UnicodeDecodeError:
        target = ""
    plain = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if not target.isprintable() or not target or target.startswith("/") or plain.split("/")[0] == "..":
        raise SourceFault(
            f"commit {commit[:12]}: the link {name} leads out of the release",
            hint="link to something in the repository; folders that releases share are named in spec.source.shared",
        )
    return target


def _bodies(mirror: Path, files: Sequence[_File]) -> Iterator[tuple[_File, bytes]]:
    """The files with their contents, read in portions."""
    portion: list[_File] = []
    size = 0
    for file in files:
        if portion and size + file.size > _PORTION:
            yield from _read(mirror, portion)
            portion, size = [], 0
        portion.append(file)
        size += file.size
    yield from _read(mirror, portion)


def _read(mirror: Path, files: Sequence[_File]) -> Iterator[tuple[_File, bytes]]:
    given = b"".join(file.blob + b"\n" for file in files)
    ended = mirror_folder.ask(mirror, "cat-file", "--batch", given=given, bounds=Bounds(_SECONDS))
    at = 0
    for file in files:
        end = ended.output.find(b"\n", at)
        head = ended.output[at:end].split()
        if end < 0 or head[:2] != [file.blob, b"blob"]:
            raise SourceFault(
                f"{file.name} cannot be read from the mirror", hint="delete the mirror; it is a cache"
            )
        begin = end + 1
        yield file, ended.output[begin : begin + file.size]
        at = begin + file.size + 1
