"""What kind of application is in a folder, from the names of a few files; nothing in them is read."""

import os
import stat
from typing import Any, Dict, List

from .. import places
from . import bounded

_MARKS = ("wp-config.php", "index.php", "artisan", "composer.json", ".htaccess", ".env")


def find(roots: List[str], notes: List[str]) -> Dict[str, Any]:
    """By document root: marks found in it (`here`) and in the folder above (`above`), who owns it, where a link leads."""
    found: Dict[str, Any] = {}
    for root in roots:
        if not root.startswith("/"):
            continue
        above = os.path.dirname(root.rstrip("/")) or "/"
        try:
            real = os.path.realpath(places.real(root))[len(places.ROOT) :]
            info = os.stat(places.real(root))
        except (OSError, ValueError):
            notes.append("{}: this document root is not there".format(bounded.text(root)))
            continue
        if not stat.S_ISDIR(info.st_mode):
            notes.append("{}: this document root is no folder".format(bounded.text(root)))
            continue
        found[bounded.text(root)] = {
            "here": [mark for mark in _MARKS if bounded.exists(root.rstrip("/") + "/" + mark)],
            "above": [mark for mark in _MARKS if bounded.exists(above.rstrip("/") + "/" + mark)],
            "uid": info.st_uid,
            "real": bounded.text(real),
        }
    return found
