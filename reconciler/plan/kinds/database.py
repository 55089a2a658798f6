"""Database: kept unless its recorded deletionPolicy says otherwise; dropping it loses data."""

from __future__ import annotations

from reconciler.plan.kinds.rules import KindRules
from reconciler.plan.model import Risk

RULES = KindRules(
    replace=("server", "engine", "name"),
    risks={
        # The old login goes as the new one comes, and the site's `.env` follows.
        ("username",): Risk.DOWNTIME,
        ("privileges",): Risk.NONE,
    },
    references={"server": "Server", "site": "Site"},
    on_delete=(Risk.DATA_LOSS, Risk.DOWNTIME),
    # Whether the old data goes is said by `retained`; the new database is empty either way.
    on_replace=(Risk.DOWNTIME,),
    default_policy="retain",
)
