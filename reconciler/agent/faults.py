"""The two faults of the agent and how errors of the operating system are worded."""

import errno
from typing import Any, Dict, Optional


class Refusal(Exception):
    """A request that is answered with an error. `code` is one of the protocol's codes, `extra` joins the error object."""

    def __init__(
        self, code: str, message: str, hint: str = "", extra: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.extra = extra or {}


class StepFault(Exception):
    """A step could not be checked or carried out; the text says what, where and why, and holds no secret."""


class Unissued(StepFault):
    """A CA gave no certificate. `bearable`: the site can do without it, for it has a self-signed one or none was in use, so
    what else was changed is not put back."""

    def __init__(self, message: str, *, bearable: bool = False) -> None:
        super().__init__(message)
        self.bearable = bearable


_CAUSES = {
    errno.ENOSPC: "no space left on the file system",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EPERM: "not permitted; the file or its folder may be immutable (see lsattr)",
    errno.EACCES: "permission denied",
    errno.ELOOP: "a symbolic link is in the way",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EXDEV: "it is on another file system",
    errno.EIO: "input/output error of the disk",
}


def cause(error: OSError) -> str:
    """The reason of an OSError in words an administrator can act on."""
    known = _CAUSES.get(error.errno or 0)
    return known or (error.strerror or str(error))


def os_fault(verb: str, path: str, error: OSError) -> StepFault:
    """A StepFault such as "cannot write /etc/nginx/x.conf: no space left on the file system"."""
    return StepFault("cannot {} {}: {}".format(verb, path, cause(error)))
