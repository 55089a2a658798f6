"""Running the agent once on a node that is not enrolled: sent along, used, and gone again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from reconciler.errors import AccessDenied, AgentFault
from reconciler.kit.secret import Secret

from . import agentzip, inventory
from .answers import Malformed
from .connection import Connection
from .inventory import Inventory
from .target import Target

WITHIN = 180.0
LIMIT = 16 * 1024 * 1024
"""Bytes of an inventory; the agent's own bounds keep it below."""

# A folder of root alone, so that nobody else can put a program in its place.
SCRIPT = (
    "umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf \"$d\"' EXIT; "
    'cat > "$d/agent" && sh "$d/agent" inventory'
)


async def inventory_of(connection: Connection) -> Inventory:
    """Ask the node at the other end, as root or through sudo without a password."""
    target = connection.target
    shell = f"sh -c '{_quoted(SCRIPT)}'"
    command = shell if target.user == "root" else f"LC_ALL=C sudo -n {shell}"
    done = await connection.run(command, stdin=agentzip.build().data, within=WITHIN, limit=LIMIT)
    if done.exit_status != 0:
        said = done.stderr.text.strip()[-300:]
        if target.user != "root" and "sudo:" in said:
            raise AccessDenied(
                target.server,
                f"sudo refused user {target.user}: {said}",
                hint="import as root, or as a user who may use sudo without a password",
            )
        raise AgentFault(
            target.server,
            f"the agent ended with {done.exit_status}: {said or 'it said nothing'}",
            hint="the node needs Python 3.6 or later as /usr/bin/python3",
        )
    try:
        value = json.loads(done.stdout.text)
        if not isinstance(value, dict):
            raise Malformed("the inventory is no object")
        return inventory.read(value)
    except ValueError as fault:
        raise AgentFault(target.server, f"the inventory cannot be read: {fault}", code="protocol") from None


def _quoted(script: str) -> str:
    return script.replace("'", "'\\''")


async def inventory_once(target: Target, identities: Sequence[Secret] = ()) -> Inventory:
    """Connect as the operator, ask, and leave. Raises what `Connection.open` raises, AccessDenied, AgentFault."""
    async with await Connection.open(target, identities=identities) as connection:
        return await inventory_of(connection)
