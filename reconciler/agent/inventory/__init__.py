"""What is on this node: for `reconciler import`, which writes manifests from it. Reads only, runs nothing of the node's users."""

from typing import Any, Dict, List

from .. import facts
from . import accounts, applications, caddy, databases, httpd, managed, nginx, pools

Found = Dict[str, Any]
FORMAT = 1


def collect() -> Found:
    """The whole inventory (docs/protocol.md). Never raises for what the node holds: what cannot be read is in `notes`."""
    notes: List[str] = []
    hosts, files = nginx.find(notes)
    hosts += caddy.find(notes)
    found_pools = pools.find(notes)
    roots = sorted({host["root"] for host in hosts if host["root"]})
    users = sorted({pool["user"] for pool in found_pools if pool["user"]})
    return {
        "format": FORMAT,
        "facts": facts.gather(),
        "hosts": hosts,
        "files": files,
        "pools": found_pools,
        "applications": applications.find(roots, notes),
        "accounts": accounts.find(users),
        "databases": databases.find(notes),
        "httpd": httpd.find(),
        "managed": managed.find(notes),
        "notes": notes[:200],
    }
