"""Reading files of unknown origin: regular files only, never more than a bound, never waiting for a pipe."""

import glob
import os
import re
import stat
from typing import List, Optional

from .. import places

MOST_BYTES = 1024 * 1024
MOST_TEXT = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read(path: str, most: int = MOST_BYTES) -> Optional[str]:
    """The text of a regular file, None when it is none, too large or not readable. Symbolic links are followed."""
    try:
        handle = os.open(places.real(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with os.fdopen(handle, "rb", closefd=False) as source:
            data = source.read(most + 1)
    except OSError:
        return None
    finally:
        os.close(handle)
    return None if len(data) > most else data.decode("utf-8", "replace")


def match(pattern: str, most: int) -> List[str]:
    """Paths of the node that match a pattern, sorted, at most `most`."""
    cut = len(places.ROOT)
    return sorted(path[cut:] for path in glob.glob(places.real(pattern)))[:most]


def text(value: str) -> str:
    """A text fit for an answer: of bounded length, control characters replaced."""
    return _CONTROL.sub("\ufffd", value[:MOST_TEXT])


def exists(path: str) -> bool:
    """Whether there is something at the path; a symbolic link itself counts."""
    try:
        return os.path.lexists(places.real(path))
    except ValueError:
        return False
