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
        # The site's `.env` follows within the same reconcile.
        ("password",): Risk.NONE,
        # Restarts and reloads of the engine are the server's.
        ("remoteAccess",): Risk.NONE,
        ("adopt",): Risk.NONE,
    },
    sensitive=(("password",),),
    references={"server": "Server", "site": "Site"},
    on_delete=(Risk.DATA_LOSS, Risk.DOWNTIME),
    # Whether the old data goes is said by `retained`; the new database is empty either way.
    on_replace=(Risk.DOWNTIME,),
    default_policy="retain",
)
