"""Programs that say whether a configuration is right, before anything is reloaded."""

import json
import os
import re
from typing import Any, Dict, List, NamedTuple

from . import cancel, places, process
from .faults import StepFault

_AT_ONCE = 4
_CADDY = ["caddy", "validate", "--config", places.real("/etc/caddy/Caddyfile"), "--adapter", "caddyfile"]


class Verdict(NamedTuple):
    """Whether the configuration is accepted, and if not, what the validator said.

    `stopped`: it had said nothing yet a while after the apply was cancelled.
    """

    ok: bool
    message: str
    stopped: bool = False


def name(validator: Dict[str, Any]) -> str:
    """How a validator is called in events."""
    if validator["type"] == "php_fpm":
        return "php-fpm -t {}".format(validator["config"])
    return {"nginx": "nginx -t", "caddy": "caddy validate", "sudoers": "visudo -c"}[validator["type"]]


def _command(validator: Dict[str, Any]) -> List[str]:
    if validator["type"] == "nginx":
        return ["nginx", "-t"]
    if validator["type"] == "caddy":
        # as its user: it opens the logs, and those that root had made it could not write to
        return process.as_user("caddy", ["env", "HOME=/var/lib/caddy", *_CADDY])
    if validator["type"] == "sudoers":
        return ["visudo", "-c", "-q"]
    argv = [places.real(validator["binary"]), "-t", "-y", places.real(validator["config"])]
    return process.as_user(validator["user"], argv)


def run(validator: Dict[str, Any]) -> Verdict:
    """Run one validator."""
    try:
        done = process.run(_command(validator), timeout=120, stop=cancel.Patience().over)
    except StepFault as fault:
        return Verdict(ok=False, message=str(fault))
    if done.stopped:
        return Verdict(ok=False, message=cancel.CANCELLED, stopped=True)
    return Verdict(done.ok(), "" if done.ok() else done.reason(name(validator)))


def run_all(asked: List[str]) -> Dict[str, Verdict]:
    """Run many validators, given as JSON, some at the same time."""
    if len(asked) < 2:
        return {name: run(json.loads(name)) for name in asked}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (slow to import, and no check needs it)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _AT_ONCE)) as pool:
        verdicts = pool.map(run, [json.loads(name) for name in asked])
        return dict(zip(asked, verdicts))  # noqa: B905 (Python 3.6)


def blamed_paths(message: str) -> List[str]:
    """The node paths that a validator's message names, in order."""
    text = message.replace(places.ROOT, "") if places.ROOT else message
    return [found.rstrip(".,;:") for found in re.findall(r"/[A-Za-z0-9._@+=~/-]+", text)]
