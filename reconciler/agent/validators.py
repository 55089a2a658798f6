"""Programs that say whether a configuration is right, before anything is reloaded."""

import os
import re
import shutil
from typing import Any, Dict, List, NamedTuple

from . import places, process


class Verdict(NamedTuple):
    """Whether the configuration is accepted, and if not, what the validator said."""

    ok: bool
    message: str


def name(validator: Dict[str, Any]) -> str:
    """How a validator is called in events."""
    if validator["type"] == "php_fpm":
        return "php-fpm -t {}".format(validator["config"])
    return {"nginx": "nginx -t", "sudoers": "visudo -c"}[validator["type"]]


def _as_user(user: str, argv: List[str]) -> List[str]:
    """The command line that runs another as a user; setpriv opens no session, so it is preferred."""
    if places.testing() and os.geteuid() != 0:
        return argv
    if shutil.which("setpriv", path=places.environment()["PATH"]):
        return ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--", *argv]
    return ["runuser", "-u", user, "--", *argv]


def _command(validator: Dict[str, Any]) -> List[str]:
    if validator["type"] == "nginx":
        return ["nginx", "-t"]
    if validator["type"] == "sudoers":
        return ["visudo", "-c", "-q"]
    argv = [places.real(validator["binary"]), "-t", "-y", places.real(validator["config"])]
    return _as_user(validator["user"], argv)


def run(validator: Dict[str, Any]) -> Verdict:
    """Run one validator."""
    done = process.run(_command(validator), timeout=120)
    return Verdict(done.ok(), "" if done.ok() else done.reason(name(validator)))


def blamed_paths(message: str) -> List[str]:
    """The node paths that a validator's message names, in order."""
    text = message.replace(places.ROOT, "") if places.ROOT else message
    return [found.rstrip(".,;:") for found in re.findall(r"/[A-Za-z0-9._@+=~/-]+", text)]
