"""SSHKey: a record (and, when the daemon made it, an encrypted private half). No node holds it but through a Server."""

from __future__ import annotations

from reconciler.plan.kinds.rules import KindRules

RULES = KindRules()
