"""SELinux of this node: whether it is on, which label a path is to have, and making things with that label.

libselinux is asked through ctypes: its Python binding is a package that may be missing, the library never is.
"""

import ctypes
import errno
import hashlib
import os
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional

from . import places, process
from .faults import StepFault, os_fault

FILESYSTEM = "/sys/fs/selinux"
CONFIG = "/etc/selinux/config"
XATTR = "security.selinux"
PRIORITY = "400"
"""What semodule(8) gives to modules of administrators."""
_LIBRARY = "libselinux.so.1"
_FILE_CONTEXTS = 0  # SELABEL_CTX_FILE
_FSCREATE = "/proc/thread-self/attr/fscreate"

_labels: Optional["_Labels"] = None


def mode() -> str:
    """`enforcing`, `permissive` or `disabled`, as the kernel says."""
    try:
        with open(places.real(FILESYSTEM + "/enforce"), "rb") as source:
            return {b"1": "enforcing", b"0": "permissive"}.get(source.read(4).strip(), "disabled")
    except OSError:
        return "disabled"


def enabled() -> bool:
    """True when the kernel has a policy, enforced or not."""
    return mode() != "disabled"


def policy() -> str:
    """The name of the policy, `targeted` or `default`: a folder of /etc/selinux. Empty when there is none."""
    try:
        with open(places.real(CONFIG), "rb") as source:
            lines = source.read(65536).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = ""
    for line in lines:
        name, equals, value = line.strip().partition("=")
        if equals and name.strip() == "SELINUXTYPE":
            found = value.strip().strip("\"'")
    return found if found.replace("-", "").replace("_", "").isalnum() else ""


def policy_version() -> str:
    """The newest format of policies that the kernel reads, such as `33`; empty when SELinux is off."""
    try:
        with open(places.real(FILESYSTEM + "/policyvers"), "rb") as source:
            return source.read(16).decode("ascii", "replace").strip()
    except OSError:
        return ""


def own_domain() -> str:
    """The type that this process runs in; empty when SELinux is off."""
    try:
        with open("/proc/self/attr/current", "rb") as source:
            parts = source.read(4096).rstrip(b"\0\n").decode("utf-8", "replace").split(":")
    except OSError:
        return ""
    return parts[2] if len(parts) > 2 and enabled() else ""


def boolean(name: str) -> Optional[bool]:
    """How a switch of the loaded policy stands; None when the policy has none of this name."""
    try:
        with open(places.real("{}/booleans/{}".format(FILESYSTEM, name)), "rb") as source:
            return source.read(16).split()[:1] == [b"1"]
    except OSError:
        return None


def brake(name: str) -> str:
    """What to add to an error when this switch may be the cause of it; an empty text when it is not."""
    if mode() == "enforcing" and boolean(name) is False:
        return "; the SELinux boolean {0} is off on this node (`setsebool -P {0} on`, or spec.selinux.booleans)".format(
            name
        )
    return ""


def installed_module(name: str) -> str:
    """A digest of a module as it lies in the node's store of modules; empty when it is not there. Raises StepFault."""
    folder = "/var/lib/selinux/{}/active/modules/{}/{}".format(policy(), PRIORITY, name)
    for part in ("hll", "cil"):  # the first is the module as it was installed; a store may be set to drop it
        try:
            with open(places.real("{}/{}".format(folder, part)), "rb") as source:
                return hashlib.sha256(source.read()).hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise os_fault("read", folder, error) from None
    return ""


def context_of(path: str) -> str:
    """The label of what is at a path, links not followed; empty when it has none. Raises OSError."""
    try:
        value = os.getxattr(places.real(path), XATTR, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return ""
        raise
    return value.rstrip(b"\0").decode("ascii", "replace")


class _Labels:
    """A handle of selabel_open(3): the file contexts of the policy as they were when it was made."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY, use_errno=True)
        self._library.selabel_open.restype = ctypes.c_void_p
        self._library.selabel_open.argtypes = [ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
        self._library.selabel_lookup.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_char_p,
            ctypes.c_int,
        ]
        self._library.selabel_close.argtypes = [ctypes.c_void_p]
        self._library.freecon.argtypes = [ctypes.c_char_p]
        self._handle = self._library.selabel_open(_FILE_CONTEXTS, None, 0)
        if not self._handle:
            raise OSError(ctypes.get_errno(), "cannot read the file contexts of the policy")

    def of(self, path: str, kind: int) -> Optional[bytes]:
        found = ctypes.c_char_p()
        answer = self._library.selabel_lookup(
            self._handle, ctypes.byref(found), path.encode("utf-8", "surrogateescape"), kind
        )
        if answer != 0 or found.value is None:
            return None  # <<none>>: the policy leaves such a path alone
        value = bytes(found.value)
        self._library.freecon(found)
        return value

    def close(self) -> None:
        self._library.selabel_close(self._handle)


def forget() -> None:
    """Read the file contexts anew when next asked: they were changed."""
    global _labels  # noqa: PLW0603 (one handle a process; opening it takes as long as thousands of look-ups)
    if _labels is not None:
        _labels.close()
        _labels = None


def label_for(path: str, kind: int) -> Optional[bytes]:
    """The label that a new file (`stat.S_IFREG` and so on) at a path is to have; None when SELinux is off or has none.

    Raises StepFault when the policy's file contexts cannot be read.
    """
    global _labels  # noqa: PLW0603 (as above)
    if places.testing() or not enabled():
        return None
    try:
        if _labels is None:
            _labels = _Labels()
        return _labels.of(path, kind)
    except OSError as error:
        raise StepFault("cannot ask SELinux for the label of {}: {}".format(path, error)) from None


@contextmanager
def creating(path: str, kind: int) -> Iterator[None]:
    """What is made inside the block has the label of `path` from its first moment, also under a temporary name.

    Without it a file gets its folder's type, and on some systems no level at all, until somebody relabels it.
    Raises StepFault, OSError.
    """
    label = label_for(path, kind)
    if label is None:
        yield
        return
    _create_as(label)
    try:
        yield
    finally:
        _create_as(b"")


def _create_as(label: bytes) -> None:
    fd = os.open(_FSCREATE, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, label + b"\0" if label else b"\n")  # an empty write would change nothing
    finally:
        os.close(fd)


def local_contexts() -> Dict[str, List[str]]:
    """The contexts that were added on this node: the pattern, then its context, in the order in which they count.

    Python 3.6 keeps the order of insertion. Raises StepFault.
    """
    path = "/etc/selinux/{}/contexts/files/file_contexts.local".format(policy())
    found: Dict[str, List[str]] = {}
    try:
        with open(places.real(path), "rb") as source:
            text = source.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return found
    except OSError as error:
        raise StepFault("cannot read {}: {}".format(path, error.strerror)) from None
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and not line.startswith("#"):
            found[parts[0]] = [parts[-1], parts[1] if len(parts) > 2 else ""]
    return found


def relabel(paths: List[str], listener: Optional[process.Listener] = None) -> None:
    """Give everything at and below these paths, as far as they are there, the label of the policy. Raises StepFault."""
    there = [places.real(path) for path in paths if os.path.lexists(places.real(path))]
    if not there:
        return
    done = process.run(["restorecon", "-R", "-F", "--", *there], timeout=3600, listener=listener)
    if not done.ok():
        raise StepFault(done.reason("restorecon"))
