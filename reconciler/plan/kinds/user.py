"""User: a record of a person; nothing on any node."""

from __future__ import annotations

from reconciler.plan.kinds.rules import KindRules

RULES = KindRules()
