"""What an apply came to, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from reconciler.app.applying import Applied
from reconciler.converge.progress import Result


def as_text(applied: Applied) -> str:
    """Terraform's closing sentence, then every failure with what to do about it."""
    done = [r for r in applied.results if r.state == "succeeded"]
    added = sum(r.action in ("create", "replace") for r in done)
    changed = sum(r.action == "update" for r in done)
    destroyed = sum(r.action in ("delete", "replace") for r in done)
    forgotten = sum(r.action == "forget" for r in done)
    repaired = sum(r.action == "repair" for r in done)
    lines = [""]
    for members in _alike(applied.failed):
        first = members[0]
        named = ", ".join(str(result.key) for result in members)
        lines.append(f"Error: {named} {first.state}: {first.message}")
        word = "deployment" if len(members) == 1 else "deployments"
        lines.append(f"  {word} {' '.join(result.deployment for result in members)}")
        if first.hint:
            lines.append(f"  {first.hint}")
    for server, why in applied.plan.unreachable.items():
        lines.append(f"Warning: {server} could not be asked for drift: {why}")
    lines += [f"Warning: {c.address} is left as it is: {c.reason}" for c in applied.plan.held]
    head = "Apply complete!" if not applied.failed else "Apply incomplete!"
    more = f", {forgotten} forgotten" if forgotten else ""
    more += f", {repaired} repaired" if repaired else ""
    lines.append(f"{head} Resources: {added} added, {changed} changed, {destroyed} destroyed{more}.")
    if applied.failed:
        lines[-1] += f" {len(applied.failed)} failed."
    if applied.plan.held:
        lines[-1] += (
            f" {len(applied.plan.held)} left as {'they are' if len(applied.plan.held) > 1 else 'it is'}."
        )
    return "\n".join(lines) + "\n"


def _alike(failed: Sequence[Result]) -> list[list[Result]]:
    """Failures of one cause together: a node that cannot be reached is one error, not one for each of its sites."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in failed:
        groups.setdefault((result.state, result.message), []).append(result)
    return list(groups.values())


def as_json(applied: Applied) -> str:
    """One object: the plan's commit, every result, the counts of failures."""
    value = {
        "commit": applied.plan.head_commit,
        "confirmed": applied.confirmed,
        "changes": len(applied.plan.effective),
        "drift": len(applied.plan.drift),
        "failed": len(applied.failed),
        "unreachable": dict(applied.plan.unreachable),
        "held": {change.address: change.reason for change in applied.plan.held},
        "problems": [str(problem) for problem in applied.plan.problems],
        "results": [
            {
                "address": str(result.key),
                "action": result.action,
                "state": result.state,
                "message": result.message,
                "hint": result.hint,
                "deployment": result.deployment,
                "seconds": round(result.seconds, 3),
            }
            for result in applied.results
        ],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)
