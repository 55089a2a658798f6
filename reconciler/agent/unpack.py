"""Making the folder of a release from the archive of a commit, and tying it to what releases share.

Runs as the site's user (`unprivileged`). Paths are those of this machine.
"""

import os
import posixpath
import shutil
import stat
import tarfile
from typing import List

from .faults import StepFault

MOST_ENTRIES = 500000
MOST_BYTES = 4 * 1024 * 1024 * 1024


def unpack(body: int, target: str) -> None:
    """Make `target` and fill it from an archive (tar, gzip) that is open for reading at `body`. Raises StepFault, OSError."""
    os.mkdir(target, 0o755)
    entries, size = 0, 0
    with os.fdopen(os.dup(body), "rb") as source, tarfile.open(fileobj=source, mode="r|gz") as archive:
        for member in archive:
            entries += 1
            size += member.size
            if entries > MOST_ENTRIES or size > MOST_BYTES:
                raise StepFault("the commit has too many files, or too large ones, to be unpacked")
            _place(archive, member, target)


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    name = inside(member.name)
    path = os.path.join(target, name)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if member.issym():
        inside(posixpath.join(posixpath.dirname(name), member.linkname))
        os.symlink(member.linkname, path)
    elif member.isreg():
        mode = 0o755 if member.mode & 0o100 else 0o644
        source = archive.extractfile(member)
        if source is None:
            raise StepFault("{} cannot be read from the archive".format(name))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as made:
            shutil.copyfileobj(source, made, 1024 * 1024)
    elif not member.isdir():
        raise StepFault("{} is neither a file, a folder nor a link".format(name))
    else:
        os.makedirs(path, 0o755, exist_ok=True)


def inside(name: str) -> str:
    """A path that stays in its release, in its normal form. Raises StepFault for one that leads out of it."""
    plain = posixpath.normpath(name)
    if name.startswith("/") or plain in ("", "..") or plain.startswith("../"):
        raise StepFault("{} leads out of the release".format(ascii(name)[:200]))
    return plain


def share(release: str, shared: str, names: List[str]) -> None:
    """Have `names` of a release be links to what stands under the same names in `shared`, and `.env` be the home's.

    What `shared` lacks is taken from the release; what neither has becomes an empty folder. Raises StepFault, OSError.
    """
    for name in names:
        kept, own = os.path.join(shared, name), os.path.join(release, name)
        _no_link_above(shared, name)
        os.makedirs(os.path.dirname(kept), 0o755, exist_ok=True)
        os.makedirs(os.path.dirname(own), 0o755, exist_ok=True)
        if not os.path.lexists(kept):
            if os.path.lexists(own):
                _copy(own, kept)
            else:
                os.mkdir(kept, 0o755)
        elif stat.S_ISLNK(os.lstat(kept).st_mode):
            raise StepFault("shared/{} is a symbolic link; put the folder or file itself there".format(name))
        remove(own)
        os.symlink(os.path.relpath(kept, os.path.dirname(own)), own)
    if ".env" not in names:
        remove(os.path.join(release, ".env"))
        os.symlink("../../.env", os.path.join(release, ".env"))


def _copy(own: str, kept: str) -> None:
    """Under another name first: what is there when the power goes is whole or not there."""
    new = kept + ".panel-new"
    remove(new)
    if os.path.isdir(own) and not os.path.islink(own):
        shutil.copytree(own, new, symlinks=True)
    elif os.path.islink(own):
        raise StepFault("{} is a symbolic link in the commit, so it cannot be shared".format(own))
    else:
        shutil.copy2(own, new)
    os.rename(new, kept)


def _no_link_above(shared: str, name: str) -> None:
    at = shared
    for part in name.split("/")[:-1]:
        at = os.path.join(at, part)
        if os.path.islink(at):
            raise StepFault("{} is a symbolic link; put a folder there".format(at))


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there. Raises OSError."""
    if not os.path.lexists(path):
        return
    if os.path.isdir(path) and not os.path.islink(path):
        _open_up(path)
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _open_up(path: str) -> None:
    """Folders that their owner may not write to, as some package managers leave them."""
    for folder, folders, _ in os.walk(path):
        for name in folders:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o755)


def switch(link: str, target: str) -> None:
    """Have the link point at `target`, in one step: there is no moment without it. Raises StepFault, OSError."""
    if os.path.isdir(link) and not os.path.islink(link):
        raise StepFault("{} is a folder, not a link; move it aside".format(link))
    new = link + ".panel-new"
    remove(new)
    os.symlink(target, new)
    os.rename(new, link)
    folder = os.open(os.path.dirname(link), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
