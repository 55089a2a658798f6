"""System users that sites run as, and the lines of their crontabs, less what looks like a secret."""

import pwd
import re
from typing import Any, Dict, List

from . import bounded

_MOST_LINES = 100
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\s*=")
_SECRET = re.compile(
    r"(?i)((?:pass(?:word|wd)?|pwd|token|secret|key|auth(?:orization)?|bearer)[A-Za-z0-9_-]*\s*[=: ]\s*)\S+"
    r"|(://)[^/@\s]+@"
    r"|(\s(?:-[puw]|--user)[\s=]?)\S+"
)
_OURS = re.compile(r"web[1-9][0-9]*\Z")


def find(wanted: List[str]) -> Dict[str, Any]:
    """The accounts by name: those wanted that exist, and those named as ours are (`web1`)."""
    found: Dict[str, Any] = {}
    for account in pwd.getpwall():
        if account.pw_name in wanted or _OURS.match(account.pw_name):
            found[bounded.text(account.pw_name)] = {
                "uid": account.pw_uid,
                "home": bounded.text(account.pw_dir),
                "shell": bounded.text(account.pw_shell),
                "cron": _cron(account.pw_name),
            }
    return found


def _cron(user: str) -> List[str]:
    """Lines of the crontab; assignments are left out, since a crontab's variables are often passwords."""
    for folder in ("/var/spool/cron/crontabs/", "/var/spool/cron/"):
        text = bounded.read(folder + user) if "/" not in user else None
        if text is None:
            continue
        lines = [line.strip() for line in text.splitlines()]
        kept = [line for line in lines if line and line[0] != "#" and not _VARIABLE.match(line)]
        return [bounded.text(masked(line)) for line in kept[:_MOST_LINES]]
    return []


def masked(line: str) -> str:
    """A command without what looks like a secret."""

    def hide(found: "re.Match[str]") -> str:
        before = found.group(1) or found.group(2) or found.group(3)
        return before + ("***@" if found.group(2) else "***")

    return _SECRET.sub(hide, line)
