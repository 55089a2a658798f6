"""Work below a site's home, done as the site's user: whatever the site has put in the way, it reaches only what it owns."""

import os
import pwd
import select
import signal
import time
from contextlib import suppress
from typing import Callable, List, Optional

from . import places
from .faults import StepFault, cause

_MOST_WORDS = 4000


def run_as(user: str, work: Callable[[], None], seconds: float) -> None:
    """Do `work` in a child process with the identity of `user`, `seconds` at most.

    The child shares open descriptors. Raises StepFault with what the child could not do, or when it took too long.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise StepFault("there is no user {}".format(user)) from None
    groups = os.getgrouplist(user, account.pw_gid)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _in_child(account, groups, work, theirs)
    os.close(theirs)
    try:
        said = _hear(ours, seconds)
        if said is None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(ours)
    if said is None:
        raise StepFault("work as the user {} did not end within {:.0f} seconds".format(user, seconds))
    if status or said:
        raise StepFault(said or "work as the user {} was killed".format(user))


def _in_child(account: pwd.struct_passwd, groups: List[int], work: Callable[[], None], tell: int) -> None:
    """Never returns."""
    try:
        if account.pw_uid != os.geteuid() and not places.testing():
            os.setgroups(groups)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        os.umask(0o022)
        os.chdir(places.ROOT or "/")
        work()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 (told to the parent; nothing of it may run on in the child)
        words = "{}: {}".format(error.filename, cause(error)) if isinstance(error, OSError) else str(error)
        with suppress(OSError):
            os.write(tell, (words or type(error).__name__).encode("utf-8", "replace")[:_MOST_WORDS])
        os._exit(1)


def _hear(ours: int, seconds: float) -> Optional[str]:
    """What the child says until it ends; None when that takes too long."""
    said = b""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([ours], [], [], left)[0]:
            return None
        piece = os.read(ours, 65536)
        if not piece:
            return said.decode("utf-8", "replace")
        said += piece
