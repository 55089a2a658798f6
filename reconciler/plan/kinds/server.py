"""Server: never destroyed. Removing its manifest forgets it and leaves the node as it is."""

from __future__ import annotations

from reconciler.plan.kinds.rules import KindRules
from reconciler.plan.model import Action, Risk

RULES = KindRules(
    # A new address is usually the same node renumbered; if it is another machine, its agent shows what it lacks.
    risks={
        ("address",): Risk.DOWNTIME,
        ("os",): Risk.DOWNTIME,
        ("webServer",): Risk.RELOAD,
        ("databaseEngines",): Risk.RESTART,
        ("software", "php"): Risk.RESTART,
        ("software", "redis"): Risk.NONE,
        ("ssh",): Risk.RELOAD,
        ("firewall",): Risk.RELOAD,
    },
    references={"sshKey": "SSHKey"},
    on_create=(Risk.RESTART,),
    removal=Action.FORGET,
)
