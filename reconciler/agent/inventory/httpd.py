"""Whether an Apache httpd is there: its virtual hosts are told of by number and not read."""

from typing import Any, Dict

from .. import process
from . import bounded

_FILES = ("/etc/httpd/conf.d/*.conf", "/etc/apache2/sites-enabled/*")
_UNITS = ("httpd.service", "apache2.service")


def find() -> Dict[str, Any]:
    """`files`: how many files configure it (0: it is not there); `running`: whether its unit is active."""
    files = sum(len(bounded.match(pattern, 5000)) for pattern in _FILES)
    if not files:
        return {"files": 0, "running": False}
    running = any(
        process.run(["systemctl", "is-active", "--quiet", unit], timeout=20).ok() for unit in _UNITS
    )
    return {"files": files, "running": running}
