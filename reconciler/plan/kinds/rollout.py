"""Rollout: a record of how changes reach servers; nothing on any node."""

from __future__ import annotations

from reconciler.plan.kinds.rules import KindRules

RULES = KindRules()
