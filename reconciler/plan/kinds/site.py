"""Site: tied to its server. Deleting it archives the home first, so data stays on the node."""

from __future__ import annotations

from reconciler.plan.kinds.rules import ANY, KindRules
from reconciler.plan.model import Risk

RULES = KindRules(
    replace=("server",),
    risks={
        ("server",): Risk.DOWNTIME,
        ("domain",): Risk.RELOAD,
        ("aliases",): Risk.RELOAD,
        ("appType",): Risk.RELOAD,
        ("documentRoot",): Risk.RELOAD,
        ("proxy",): Risk.RELOAD,
        ("www",): Risk.RELOAD,
        ("redirects",): Risk.RELOAD,
        ("headers",): Risk.RELOAD,
        ("clientAddress",): Risk.RELOAD,
        # Another version is another php-fpm, which takes the socket over from the one that ran.
        ("phpVersion",): Risk.RELOAD,
        ("php",): Risk.RELOAD,
        ("php", "uploadMaxFilesize"): Risk.RELOAD,
        # systemd puts new limits into force without a restart
        ("limits",): Risk.NONE,
        ("redis",): Risk.RESTART,
        ("env",): Risk.NONE,
        ("cron",): Risk.NONE,
        ("workers",): Risk.RESTART,
        ("source",): Risk.RELOAD,
        ("source", "keep"): Risk.NONE,
        ("source", "timeout"): Risk.NONE,
        ("source", "healthCheck"): Risk.NONE,
        ("source", "after"): Risk.NONE,
        ("source", "key"): Risk.NONE,
        ("state",): Risk.DOWNTIME,
    },
    sensitive=(("env", ANY),),
    silent=(("source", "revision", "archive"), ("source", "revision", "size")),
    references={"server": "Server"},
    on_create=(Risk.RELOAD,),
    on_delete=(Risk.DOWNTIME,),
    # The new home is empty; the old one is archived on the server the site leaves.
    on_replace=(Risk.DOWNTIME,),
)
