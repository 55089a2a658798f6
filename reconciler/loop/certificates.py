"""How long the certificates of sites are still good for, from what nodes say of them: the condition CertificateValid."""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.converge.observer import Observation
from reconciler.desired.certificates import SOON
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.kit.clock import stamp
from reconciler.kit.text import count
from reconciler.nodes.answers import CertificateFact
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions
from reconciler.store import Tx


def note(tx: Tx, recorded: Recorded, seen: Observation) -> None:
    """Bring the conditions of the sites on the servers that answered up to what these have."""
    for key, resource in recorded.resources.items():
        if key.kind is not Kind.SITE or resource.server not in seen.certificates:
            continue
        shown = {one.site: one for one in seen.certificates[resource.server]}
        _note(tx, key, resource.revision, shown.get(key.name))


def _note(tx: Tx, key: Key, revision: str, found: CertificateFact | None) -> None:
    if found is None:
        conditions.no_certificate(tx, key)
        return
    reason, said = judge(found, tx.now)
    conditions.certificate(tx, key, revision, reason, said)


def judge(found: CertificateFact, now: datetime) -> tuple[conditions.CertificateReason, str]:
    """In one word, and in a sentence, how a certificate stands."""
    left = found.ends - now
    if left <= timedelta(0):
        return "Expired", f"the certificate expired at {stamp(found.ends)}"
    if left < SOON:
        return (
            "EndsSoon",
            f"the certificate ends in {count(left // timedelta(days=1), 'day')}, at {stamp(found.ends)}",
        )
    issuer = "self-signed" if found.self_signed else f"issued by {found.issuer}"
    return "Valid", f"until {stamp(found.ends)}, for {count(len(found.names), 'name')}, {issuer}"
