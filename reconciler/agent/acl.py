"""Access for one more user, by a POSIX access control list: acl(5), and the format of linux/posix_acl_xattr.h.

Written without setfacl(1), which is a package that may be missing.
"""

import errno
import os
import stat
import struct
from typing import List, Tuple

XATTR = "system.posix_acl_access"
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NOBODY = 0xFFFFFFFF
_ENTRY = struct.Struct("<HHI")

_Entry = Tuple[int, int, int]
"""Tag, permissions (4 read, 2 write, 1 enter or run), id of the user or group."""


def _read(path: str, mode: int) -> List[_Entry]:
    try:
        value = os.getxattr(path, XATTR, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        modes = ((_USER_OBJ, mode >> 6), (_GROUP_OBJ, mode >> 3), (_OTHER, mode))
        return [(tag, bits & 7, _NOBODY) for tag, bits in modes]
    return [_ENTRY.unpack_from(value, at) for at in range(4, len(value), _ENTRY.size)]


def grant(path: str, uid: int, permissions: int) -> None:
    """Give a user these permissions on what is at a path; a symbolic link is refused. Raises OSError."""
    entries = _read(path, os.lstat(path).st_mode)
    kept = [entry for entry in entries if (entry[0], entry[2]) != (_USER, uid) and entry[0] != _MASK]
    group = [entry[1] for entry in entries if entry[0] in (_MASK, _GROUP_OBJ)]
    mask = (group[-1] if any(entry[0] == _MASK for entry in entries) else group[0]) | permissions
    _write(path, [*kept, (_USER, permissions, uid), (_MASK, mask, _NOBODY)])


def revoke(path: str, uid: int) -> None:
    """Take back what `grant` gave; a path without a list is left alone. Raises OSError."""
    info = os.lstat(path)
    entries = _read(path, info.st_mode)
    kept = [entry for entry in entries if (entry[0], entry[2]) != (_USER, uid)]
    if len(kept) == len(entries):
        return
    if any(entry[0] in (_USER, _GROUP) for entry in kept):
        _write(path, kept)
        return
    bits = {entry[0]: entry[1] for entry in kept}
    os.removexattr(path, XATTR, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        special = info.st_mode & 0o7000
        os.chmod(path, special | bits[_USER_OBJ] << 6 | bits[_GROUP_OBJ] << 3 | bits[_OTHER])


def _write(path: str, entries: List[_Entry]) -> None:
    packed = b"".join(_ENTRY.pack(*entry) for entry in sorted(entries, key=lambda e: (e[0], e[2])))
    os.setxattr(path, XATTR, struct.pack("<I", _VERSION) + packed, follow_symlinks=False)
