"""Starting quickly: the modules are unpacked once below the state folder, where Python keeps them compiled.

Python cannot keep what it compiled in a zip; compiling everything at each start takes longer than a check. The folder
is named by the sha256 of the program file, so it can never belong to another version, and it is root's alone. Whatever
is wrong with it (a power cut may leave half-written files), it is thrown away and the zip is used.
"""

import hashlib
import os
import shutil
import sys
import threading
from typing import Dict

from . import places

CODE = places.STATE + "/code"


def archive() -> str:
    """The path of the zip that this package was loaded from; an empty text when it runs from source."""
    origin = sys.modules[__name__.rpartition(".")[0]].__file__ or ""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(origin)))
    return folder if os.path.isfile(folder) else ""


def _digest() -> str:
    with open(archive(), "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


def _folder() -> str:
    return places.real("{}/{}".format(CODE, _digest()))


def use() -> bool:
    """Let the modules that are imported from now on come from the unpacked ones, if they are there."""
    if not archive():
        return False
    package = __name__.rpartition(".")[0]
    folder = os.path.join(_folder(), package)
    try:
        info = os.stat(folder)
    except OSError:
        return False
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        return False
    sys.modules[package].__path__ = [folder]
    return True


def give_up() -> None:
    """Go back to the zip: the unpacked modules cannot be imported."""
    package = __name__.rpartition(".")[0]
    sys.modules[package].__path__ = [os.path.join(archive(), package)]
    for name in list(sys.modules):
        if name.startswith(package + ".") and name not in (__name__, places.__name__, package + ".main"):
            del sys.modules[name]
    shutil.rmtree(places.real(CODE), ignore_errors=True)


def unpack() -> None:
    """Unpack this version if it is not there yet, beside the conversation, and remove others."""
    if archive() and not os.path.isdir(_folder()):
        threading.Thread(target=_unpack).start()


def _unpack() -> None:
    """A failure only costs time at the next start."""
    folder = _folder()
    partial = "{}.{}".format(folder, os.getpid())
    try:
        shutil.rmtree(os.path.dirname(folder), ignore_errors=True)
        os.makedirs(partial, 0o700)
        for name, body in _modules().items():
            _write(os.path.join(partial, name), body)
        os.rename(partial, folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)


def _modules() -> Dict[str, bytes]:
    import zipfile  # noqa: PLC0415 (slow to import, and seldom needed)

    with zipfile.ZipFile(archive()) as packed:
        return {name: packed.read(name) for name in packed.namelist() if name.endswith(".py") and "/" in name}


def _write(path: str, body: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as target:
        target.write(body)
        target.flush()
        os.fsync(fd)
