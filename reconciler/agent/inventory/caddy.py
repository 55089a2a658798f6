"""Sites of Caddy, from the JSON that it makes of its own Caddyfile (`caddy adapt`, which starts and changes nothing)."""

import json
from typing import Any, Dict, Iterator, List

from .. import process
from . import bounded, nginx

CADDYFILE = "/etc/caddy/Caddyfile"
_MOST_DEPTH = 12


def find(notes: List[str]) -> List[Dict[str, Any]]:
    """One virtual host a route of Caddy's servers that names hosts."""
    if bounded.read(CADDYFILE) is None:
        return []
    done = process.run(["caddy", "adapt", "--adapter", "caddyfile", "--config", CADDYFILE], timeout=30)
    if not done.ok():
        # what caddy says quotes its configuration
        notes.append(
            "{}: `caddy adapt` ended with {}; nothing of it is taken over".format(CADDYFILE, done.code)
        )
        return []
    try:
        adapted = json.loads(done.out)
        servers = adapted["apps"]["http"]["servers"]
        routes = [(server, route) for server in servers.values() for route in server.get("routes", [])]
        return [_host(server, route) for server, route in routes if _names(route)][: nginx.MOST_HOSTS]
    except (ValueError, KeyError, TypeError, AttributeError):
        notes.append("{}: `caddy adapt` gave something else than sites".format(CADDYFILE))
        return []


def _names(route: Dict[str, Any]) -> List[str]:
    names = [name for match in route.get("match", []) for name in match.get("host", [])]
    return [bounded.text(str(name)) for name in names[:100]]


def _host(server: Dict[str, Any], route: Dict[str, Any]) -> Dict[str, Any]:
    host = nginx.host_of(kind="caddy", file=CADDYFILE, names=_names(route))
    host["listen"] = [bounded.text(str(one)) for one in server.get("listen", [])[:20]]
    others: Dict[str, bool] = {}
    for handler in _handlers(route, 0):
        kind = str(handler.get("handler"))
        if kind == "vars" and handler.get("root"):
            host["root"] = host["root"] or bounded.text(str(handler["root"]))
        elif kind == "reverse_proxy":
            dials = [str(upstream.get("dial", "")) for upstream in handler.get("upstreams", [])]
            fast = handler.get("transport", {}).get("protocol") == "fastcgi"
            for dial in dials[:20]:
                address = bounded.text(dial.replace("unix//", "unix:/", 1))
                host["php" if fast else "proxy"].append(address if fast else "http://" + address)
        elif kind not in ("subroute", "file_server", "static_response", "encode", "headers", "rewrite"):
            others[bounded.text(kind)[:60]] = True
    host["others"] = sorted(others)[:50]
    return host


def _handlers(route: Dict[str, Any], depth: int) -> Iterator[Dict[str, Any]]:
    if depth > _MOST_DEPTH:
        return
    for handler in route.get("handle", []):
        yield handler
        for inner in handler.get("routes", []):
            for found in _handlers(inner, depth + 1):
                yield found
