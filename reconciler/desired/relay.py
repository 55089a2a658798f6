"""What the SELinux policy lets the web server reach for a site of type proxy: see `panel_can_relay` in selinux/panel.te."""

from __future__ import annotations

HTTP_PORTS = frozenset({80, 81, 443, 488, 8008, 8009, 8443, 9000})
"""Ports of `http_port_t`, in both policy families: the web server may always connect to them."""
BOOLEAN = "panel_can_relay"
"""Lets the web server connect to every port above the reserved ones."""
_RESERVED = 1024


def needs_boolean(upstream: str) -> bool:
    """Whether the web server may connect to an upstream only while the boolean is on."""
    return not upstream.startswith("unix:") and HTTP_PORTS.isdisjoint({_port(upstream)})


def out_of_reach(upstream: str, *, relays: bool) -> bool:
    """Whether the policy as it is shipped keeps the web server from an upstream. `relays`: the boolean is on."""
    if upstream.startswith("unix:"):
        return not upstream.removeprefix("unix:").startswith(("storage/", "tmp/"))
    return needs_boolean(upstream) and not (relays and _port(upstream) >= _RESERVED)


def _port(upstream: str) -> int:
    return int(upstream.rpartition(":")[2])
