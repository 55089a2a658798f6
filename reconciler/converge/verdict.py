"""Pure: what a node's answer, or the lack of one, means for one resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.converge.progress import ResultState
from reconciler.errors import ReconcilerError
from reconciler.kit.text import count
from reconciler.nodes.answers import Outcome

_AGAIN = "apply again: the agent settles what is in doubt"


@dataclass(frozen=True)
class Verdict:
    """How one resource ended. `stalled`: trying again will not help before a person acts. `versions`: what the node has of
    the software that was asked for."""

    state: ResultState
    message: str
    hint: str = ""
    stalled: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)


def of_section(node: str, address: str, outcome: Outcome, deployment: str) -> Verdict:
    """What the outcome of an apply says about the section `address`; `deployment` is where a person reads on."""
    found = outcome.sections.get(address)
    if found is None:
        return Verdict("failed", f"{node} did not tell how this ended", _AGAIN)
    if outcome.state == "interrupted":
        # sections that were done count as little: validators and reloads come after the last of them
        why = found.message or "the apply was interrupted before its services were reloaded"
        doubt = f" (in doubt: {outcome.doubt})" if outcome.doubt else ""
        return Verdict("failed", f"{node}: {why}{doubt}", _AGAIN)
    match found.state:
        case "succeeded" | "unchanged":
            said = f"{count(found.changed, 'step')} changed on {node}"
            return Verdict("succeeded", said, versions=outcome.versions)
        case "skipped":
            message = f"{node}: {found.message or 'skipped'}"
            return Verdict("skipped", message, "it is tried again once what it needs is in order")
        case "failed":
            hint = f"reconciler deployments show {deployment} prints what the node said"
            said = f"{node}: {found.message or 'failed'}"
            return Verdict("failed", said, hint, stalled=True, versions=outcome.versions)


def nothing_to_do(node: str) -> Verdict:
    """Nothing of the resource is left on the node."""
    return Verdict("succeeded", f"nothing of it is on {node}")


def of_fault(fault: ReconcilerError) -> Verdict:
    """The node could not be asked, or refused."""
    return Verdict("failed", fault.message, fault.hint, stalled=fault.reaction == "stall")


def of_defect(node: str, fault: Exception, text: str) -> Verdict:
    """The program itself failed while it worked on the node; `text` is the exception's, without secrets."""
    message = f"{node}: a defect of this program stopped the work on it ({type(fault).__name__}: {text})"
    return Verdict("failed", message, "apply again; if it stays so, report this message", stalled=True)
