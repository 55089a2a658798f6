"""The subcommands: `serve`, `run <deployment>`, `revert <deployment> [<seconds>]`, `version`, `status`, `inventory`."""

import json
import os
import sys
from typing import List, Optional

from . import (
    atomic,
    bundle,
    compiled,
    fields,
    guard,
    inventory,
    journal,
    lock,
    outcome,
    places,
    runner,
    serve,
    upgrade,
)

_USAGE = "usage: panel-ssh-manager serve | run DEPLOYMENT | revert DEPLOYMENT [SECONDS] | status | inventory | version\n"


def _status() -> int:
    kept = bundle.load(bundle.KEPT)
    running = lock.running()
    lines = [
        "agent    {}".format(upgrade.own_digest() or "from source"),
        "bundle   {}".format("{} of {}".format(kept.digest, kept.value["server"]) if kept else "none"),
        "fence    {}".format(lock.fence()),
        "running  {}".format(running or "nothing"),
    ]
    folder = places.real(places.JOURNAL)
    for name in sorted(os.listdir(folder), reverse=True)[:10] if os.path.isdir(folder) else []:
        if not journal.exists(name):
            continue  # an apply that never came
        result = journal.outcome(name)
        if result is None and name != running:
            result = outcome.interrupted(name)
        state = result["state"] if result else "running"
        if result and result.get("cancelled"):
            state += " (cancelled)"
        lines.append("apply    {} {} {}".format(name, state, result["finished_at"] if result else ""))
    unconfirmed = guard.waiting()
    if unconfirmed is not None:
        lines.append("waits    {} is undone unless the daemon confirms it".format(unconfirmed))
    if atomic.load_json(places.STATE + "/pending.json") is not None:
        lines.append("owed     validation or reloads of an interrupted apply; the next apply settles them")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    """Run one subcommand; the exit status. Errors of use end with 2."""
    arguments = sys.argv[1:] if argv is None else argv
    os.umask(0o022)
    if arguments == ["version"]:
        sys.stdout.write(upgrade.own_digest() + "\n")
        return 0
    if arguments == ["serve"]:
        agent = upgrade.own_digest()
        return serve.main(agent, compiled.unpack)
    if arguments == ["status"]:
        return _status()
    if arguments == ["inventory"]:
        # of a node that is not enrolled: the program is run once from a temporary file and leaves nothing behind
        sys.stdout.write(json.dumps(inventory.collect()) + "\n")
        return 0
    if len(arguments) in (2, 3) and arguments[0] == "revert" and all(a.isdigit() for a in arguments[2:]):
        return guard.revert(arguments[1], *(float(seconds) for seconds in arguments[2:]))
    if len(arguments) == 2 and arguments[0] == "run":
        try:
            fields.ulid(arguments[1])
        except ValueError:
            sys.stderr.write(_USAGE)
            return 2
        if not journal.exists(arguments[1]):
            sys.stderr.write("no deployment {} is known here\n".format(arguments[1]))
            return 1
        return runner.main(arguments[1])
    sys.stderr.write(_USAGE)
    return 2
