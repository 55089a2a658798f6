"""A plan as JSON, lossless, and back: the file of `plan -o` and what the database keeps.

It holds complete manifests, because an apply is driven by it alone: the values of a site's `env` are in it as they are in
git. Whoever writes it to a file writes it 0600. Everything that shows a plan uses `reconciler.plan.render`, which masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Problem, Source
from reconciler.errors import UsageFault
from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.plan.model import (
    Action,
    Change,
    DriftItem,
    FieldDiff,
    Finding,
    Plan,
    PlannedStep,
    Risk,
)

FORMAT = "reconciler-plan"
VERSION = 1


def dumps(plan: Plan) -> bytes:
    """The file form: canonical JSON in an envelope with format, version and digest, and a final newline."""
    value = plan_to_json(plan)
    envelope: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": canonical.digest(value),
        "plan": value,
    }
    return canonical.dumps(envelope) + b"\n"


def loads(data: bytes | str) -> Plan:
    """The plan of a file. UsageFault when it is no plan, of an unknown version, truncated or altered."""
    try:
        envelope = json.loads(data)
    except ValueError:
        raise UsageFault(
            "The file is not a saved plan: it is not JSON.",
            hint="Give a file that `reconciler plan -o` wrote.",
        ) from None
    if not isinstance(envelope, dict) or envelope.get("format") != FORMAT:
        raise UsageFault(
            "The file is not a saved plan.",
            hint="Give a file that `reconciler plan -o` wrote; `plan --output json` is for reading only.",
        )
    if envelope.get("version") != VERSION:
        raise UsageFault(
            f"The saved plan has format version {envelope.get('version')!r}; this version reads {VERSION}.",
            hint="Make the plan again with this version of Reconciler.",
        )
    value = envelope.get("plan")
    if not isinstance(value, dict) or envelope.get("sha256") != canonical.digest(value):
        raise UsageFault(
            "The saved plan was damaged or altered: its digest does not fit.", hint="Make the plan again."
        )
    try:
        return plan_from_json(value)
    except (KeyError, TypeError, ValueError) as fault:
        raise UsageFault(
            f"The saved plan cannot be read: {type(fault).__name__} at {fault}.", hint="Make the plan again."
        ) from None


def plan_to_json(plan: Plan) -> dict[str, Json]:
    """Every field of the plan as JSON."""
    return {
        "base_commit": plan.base_commit,
        "head_commit": plan.head_commit,
        "serial": plan.serial,
        "lineage": plan.lineage,
        "engine": plan.engine,
        "created_at": plan.created_at,
        "changes": [change_to_json(c) for c in plan.changes],
        "drift": [
            {
                "key": list(d.key),
                "server": d.server,
                "step": d.step,
                "action": d.action,
                "changes": [list(c) for c in d.changes],
                "note": d.note,
            }
            for d in plan.drift
        ],
        "findings": [
            {
                "code": f.code,
                "message": f.message,
                "blocking": f.blocking,
                "addresses": list(f.addresses),
                "hint": f.hint,
                "approvable": f.approvable,
            }
            for f in plan.findings
        ],
        "problems": [
            {
                "source": _source(p.source),
                "code": p.code,
                "message": p.message,
                "hint": p.hint,
                "severity": p.severity,
            }
            for p in plan.problems
        ],
        "author_name": plan.author_name,
        "author_email": plan.author_email,
        "refreshed": plan.refreshed,
        "unreachable": dict(plan.unreachable),
    }


def change_to_json(change: Change) -> dict[str, Json]:
    """Every field of a change as JSON."""
    return {
        "key": list(change.key),
        "action": change.action.value,
        "reason_code": change.reason_code,
        "reason": change.reason,
        "server": change.server,
        "previous": list(change.previous) if change.previous else None,
        "source": _source(change.source),
        "before": change.before,
        "after": change.after,
        "diffs": [
            {
                "path": list(d.path),
                "before": d.before,
                "after": d.after,
                "sensitive": d.sensitive,
                "forces_replacement": d.forces_replacement,
                "source": _source(d.source),
            }
            for d in change.diffs
        ],
        "risks": [r.value for r in change.risks],
        "steps": [[s.op, s.key, s.summary] for s in change.steps],
        "identity": dict(change.identity),
        "previous_server": change.previous_server,
        "retained": change.retained,
    }


def plan_from_json(value: Mapping[str, Any]) -> Plan:
    """The plan of `plan_to_json`. KeyError, TypeError or ValueError when it is something else."""
    return Plan(
        base_commit=value["base_commit"],
        head_commit=value["head_commit"],
        serial=value["serial"],
        lineage=value["lineage"],
        engine=value["engine"],
        created_at=value["created_at"],
        changes=tuple(change_from_json(c) for c in value["changes"]),
        drift=tuple(
            DriftItem(
                key=_key(d["key"]),
                server=d["server"],
                step=d["step"],
                action=d["action"],
                changes=tuple((c[0], c[1], c[2]) for c in d["changes"]),
                note=d["note"],
            )
            for d in value["drift"]
        ),
        findings=tuple(Finding(**{**f, "addresses": tuple(f["addresses"])}) for f in value["findings"]),
        problems=tuple(Problem(**{**p, "source": _required(p["source"])}) for p in value["problems"]),
        author_name=value["author_name"],
        author_email=value["author_email"],
        refreshed=value["refreshed"],
        unreachable=dict(value["unreachable"]),
    )


def change_from_json(value: Mapping[str, Any]) -> Change:
    """The change of `change_to_json`. KeyError, TypeError or ValueError when it is something else."""
    return Change(
        key=_key(value["key"]),
        action=Action(value["action"]),
        reason_code=value["reason_code"],
        reason=value["reason"],
        server=value["server"],
        previous=_key(value["previous"]) if value["previous"] else None,
        source=_place(value["source"]),
        before=value["before"],
        after=value["after"],
        diffs=tuple(
            FieldDiff(
                path=tuple(d["path"]),
                before=d["before"],
                after=d["after"],
                sensitive=d["sensitive"],
                forces_replacement=d["forces_replacement"],
                source=_place(d["source"]),
            )
            for d in value["diffs"]
        ),
        risks=tuple(Risk(r) for r in value["risks"]),
        steps=tuple(PlannedStep(*s) for s in value["steps"]),
        identity=dict(value["identity"]),
        previous_server=value["previous_server"],
        retained=value["retained"],
    )


def _source(source: Source | None) -> Json:
    return None if source is None else [source.path, source.line, source.column]


def _place(value: Sequence[Any] | None) -> Source | None:
    return None if value is None else _required(value)


def _required(value: Sequence[Any]) -> Source:
    path, line, column = value
    return Source(path, line, column)


def _key(value: Sequence[str]) -> Key:
    kind, name = value
    return Key(Kind(kind), name)
