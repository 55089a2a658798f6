"""What planning must know of each kind: one file a kind, named as in `reconciler.desired.kinds`."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.desired.kinds import Kind
from reconciler.plan.kinds import database, rollout, server, site, sshkey, user
from reconciler.plan.kinds.rules import KindRules, spec_of, worst_first

RULES: Mapping[Kind, KindRules] = {
    Kind.SERVER: server.RULES,
    Kind.SITE: site.RULES,
    Kind.DATABASE: database.RULES,
    Kind.SSH_KEY: sshkey.RULES,
    Kind.USER: user.RULES,
    Kind.ROLLOUT: rollout.RULES,
}
"""Defaults is not here: it is merged into the others before anything is planned."""

CREATION_ORDER = (Kind.USER, Kind.SSH_KEY, Kind.ROLLOUT, Kind.SERVER, Kind.DATABASE, Kind.SITE)
"""What others need comes first; removals go the other way round."""

__all__ = ["CREATION_ORDER", "RULES", "KindRules", "spec_of", "worst_first"]
