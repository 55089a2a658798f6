"""Values of metric labels, bounded: each further value costs a series for as long as the process lives."""

from __future__ import annotations

import re

OTHER = "other"

KINDS = frozenset({"Server", "Site", "Database", "SSHKey", "User", "Rollout", "Fleet"})
RESULTS = frozenset({"succeeded", "failed", "interrupted", "skipped", "cancelled", "unchanged"})
FAILURES = frozenset(
    {
        "unreachable", "lost", "busy", "deadline_passed", "access_denied", "host_key_mismatch", "not_enrolled", "fenced",
        "agent", "wrong_platform", "unfit",
    }
)  # fmt: skip
OPERATIONS = frozenset(
    {
        "hello", "check", "bundle", "prepare", "blob", "apply", "status", "follow", "confirm", "upgrade", "avc", "logs",
        "cancel", "units", "forget",
    }
)  # fmt: skip
CONDITIONS = frozenset(
    {
        "Ready", "Reconciling", "Stalled", "Drifted", "Reachable", "SourceReady", "Healthy", "CertificateValid",
        "RebootNeeded",
    }
)  # fmt: skip
STATUSES = frozenset({"True", "False", "Unknown"})
DRIFT = frozenset({"report", "heal", "ignore", "stop"})
ALERTS = frozenset({"new", "ongoing", "resolved"})
DELIVERIES = frozenset({"delivered", "retry", "given_up"})
FORGES = frozenset({"github", "gitlab", "gitea", "forgejo", "generic"})
HOOKS = frozenset({"accepted", "ignored", "replayed", "refused", "malformed", "failed"})
AVC = frozenset(
    {
        "file", "dir", "lnk_file", "sock_file", "fifo_file", "chr_file", "blk_file", "process", "process2", "tcp_socket",
        "udp_socket", "unix_stream_socket", "unix_dgram_socket", "capability", "capability2", "system", "service",
        "dbus", "netif", "node", "peer", "packet", "key", "filesystem", "security", "bpf", "perf_event",
    }
)  # fmt: skip

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def word(value: str, known: frozenset[str]) -> str:
    """`value` when it is one of `known`, else "other"."""
    return value if value in known else OTHER


def failure(value: str) -> str:
    """A word of `FAILURES` for a reason: the word itself, or the name of a fault of `reconciler.errors`."""
    plain = _HUMP.sub("_", value).lower().replace("-", "_")
    for prefix, suffix in (("node_", ""), ("", "_fault"), ("", "")):
        if plain.startswith(prefix) and plain.endswith(suffix):
            found = plain[len(prefix) : len(plain) - len(suffix)]
            if found in FAILURES:
                return found
    return OTHER


class Names:
    """Names from the settings (fleets, channels): the first `limit` of them are values, any further one is "other"."""

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The value for `name`."""
        if name not in self._known and len(self._known) < self._limit and _NAME.fullmatch(name):
            self._known.add(name)
        return word(name, frozenset(self._known))
