"""Disk quotas of users, through quotactl(2): the same call for ext4 and XFS, whatever tools are installed.

ext4 with the feature `quota` counts what users have, and holds them to limits only when it is mounted with `usrquota` too
(ext4_enable_quotas in fs/ext4/super.c). XFS does both when mounted with `usrquota`. Whether limits hold is asked of the kernel,
since neither features nor programs tell for sure: `quotaon -p` exits with 0 when they are off.
"""

import ctypes
import errno
import os
import stat
from typing import NamedTuple

from . import places
from .faults import StepFault

_GET, _SET = 0x800007, 0x800008  # Q_GETQUOTA, Q_SETQUOTA of <sys/quota.h>
_STATE = 0x5805  # Q_XGETQSTAT of <xfs/xqm.h>, which every file system with quotas answers
_ENFORCED = 1 << 1  # XFS_QUOTA_UDQ_ENFD
_USER = 0
_BLOCK_LIMITS = 1  # QIF_BLIMITS
_BLOCK = 1024  # QIF_DQBLKSIZE
_NONE = (
    errno.ESRCH, errno.ENOSYS, errno.ENOTBLK, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP,
    errno.ENOTTY,
)  # fmt: skip


class _Block(ctypes.Structure):
    """`struct if_dqblk` of linux/quota.h."""

    _fields_ = [
        ("hard", ctypes.c_uint64),
        ("soft", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("inodes_hard", ctypes.c_uint64),
        ("inodes_soft", ctypes.c_uint64),
        ("inodes_used", ctypes.c_uint64),
        ("block_time", ctypes.c_uint64),
        ("inode_time", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    ]


class _State(ctypes.Structure):
    """The beginning of `struct fs_quota_stat` of linux/dqblk_xfs.h, and room for the rest."""

    _fields_ = [("version", ctypes.c_int8), ("flags", ctypes.c_uint16), ("rest", ctypes.c_uint8 * 508)]


class Quota(NamedTuple):
    """Of one user on one file system, in bytes. `limit` is 0 when there is none."""

    limit: int
    used: int


class NoQuotas(StepFault):
    """The file system holds no user to a limit."""


class _Unknown(StepFault):
    """The file system has nothing of this user and knows no limit (XFS)."""


def _device(path: str) -> str:
    """The block device of the file system that a path is, or will be, on. Raises NoQuotas, OSError."""
    real = places.real(path)
    while not os.path.lexists(real):
        real = os.path.dirname(real)
    number = os.stat(real).st_dev
    wanted = "{}:{}".format(os.major(number), os.minor(number))
    with open("/proc/self/mountinfo", "rb") as source:
        for line in source.read().decode("utf-8", "replace").splitlines():
            words = line.split(" ")
            if words[2] != wanted:
                continue
            device = words[words.index("-") + 2]
            if device.startswith("/") and os.path.exists(device) and stat.S_ISBLK(os.stat(device).st_mode):
                return device
    # the name in the table of mounts may be gone (/dev/root); the kernel has a link by number
    named = "/dev/block/" + wanted
    if os.path.exists(named):
        return named
    raise _none(path)


def _none(path: str) -> NoQuotas:
    return NoQuotas(
        "the file system of {} holds no user to a quota; mount it with usrquota (ext4 needs `tune2fs -O quota` before that), "
        "or take limits.disk away".format(path)
    )


def _call(command: int, path: str, uid: int, block: ctypes.Structure) -> None:
    try:
        device = _device(path)
    except OSError:
        raise _none(path) from None
    library = ctypes.CDLL(None, use_errno=True)
    done = library.quotactl(
        ctypes.c_uint((command << 8) | _USER),
        ctypes.c_char_p(os.fsencode(device)),
        ctypes.c_int(uid),
        ctypes.byref(block),
    )
    if done != 0:
        number = ctypes.get_errno()
        if number == errno.ENOENT and command == _GET:
            raise _Unknown("no quota of {} on {}".format(uid, path))
        if number in _NONE or number == errno.ENOENT:
            raise _none(path)
        raise StepFault("cannot use the quotas of {}: {}".format(path, os.strerror(number)))


def _demand(path: str) -> None:
    state = _State()
    _call(_STATE, path, 0, state)
    if not state.flags & _ENFORCED:
        raise _none(path)


def get(path: str, uid: int) -> Quota:
    """A user's quota on the file system of a path. Raises NoQuotas when no limit holds there, StepFault."""
    _demand(path)
    block = _Block()
    try:
        _call(_GET, path, uid, block)
    except _Unknown:
        return Quota(0, 0)
    return Quota(block.hard * _BLOCK, block.used)


def put(path: str, uid: int, limit: int) -> None:
    """Set it; 0 takes it away. Raises NoQuotas when no limit holds there, StepFault."""
    _demand(path)
    blocks = -(-limit // _BLOCK)
    _call(_SET, path, uid, _Block(hard=blocks, soft=blocks, valid=_BLOCK_LIMITS))
