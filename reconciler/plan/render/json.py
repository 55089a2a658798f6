"""A plan for programs, under Terraform's names, so that rules written for its plans work on ours.

Our own facts are in the objects called `reconciler`. Sensitive values are masked (Terraform leaves them in clear): the
`*_sensitive` maps say where.
"""

from __future__ import annotations

import json
from itertools import groupby

from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.plan.exits import errored
from reconciler.plan.identity import identity
from reconciler.plan.masking import UNKNOWN, marks, masked_manifest
from reconciler.plan.model import Action, Change, DriftItem, Finding, Plan

FORMAT_VERSION = "1.0"

_ACTIONS: dict[Action, list[Json]] = {
    Action.CREATE: ["create"],
    Action.UPDATE: ["update"],
    Action.DELETE: ["delete"],
    Action.REPLACE: ["delete", "create"],
    Action.FORGET: ["forget"],
    Action.NO_OP: ["no-op"],
}
_ACTION_REASONS = {
    Action.REPLACE: "replace_because_cannot_update",
    Action.DELETE: "delete_because_no_resource_config",
}


def as_json(plan: Plan, *, indent: int | None = None) -> str:
    """The plan as JSON text, keys sorted, ending with a line break; on one line unless `indent` says otherwise."""
    return json.dumps(json_value(plan), indent=indent, sort_keys=True, ensure_ascii=False) + "\n"


def json_value(plan: Plan) -> dict[str, Json]:
    """The plan as a JSON value. Cannot be turned back into a plan: `reconciler.plan.serial` is for that."""
    return {
        "format_version": FORMAT_VERSION,
        "timestamp": plan.created_at,
        "errored": errored(plan),
        "applyable": not errored(plan) and bool(plan.effective),
        "resource_changes": [_resource_change(change) for change in plan.changes],
        "resource_drift": [
            _drift(list(items)) for _, items in groupby(plan.drift, key=lambda d: (d.key, d.server))
        ],
        "checks": [_check(finding) for finding in plan.findings],
        "reconciler": {
            "identity": identity(plan),
            "base_commit": plan.base_commit,
            "head_commit": plan.head_commit,
            "serial": plan.serial,
            "lineage": plan.lineage,
            "engine": plan.engine,
            "author": {"name": plan.author_name, "email": plan.author_email},
            "refreshed": plan.refreshed,
            "unreachable": dict(plan.unreachable),
            "findings": [
                {
                    "code": f.code,
                    "message": f.message,
                    "blocking": f.blocking,
                    "approvable": f.approvable,
                    "addresses": list(f.addresses),
                    "hint": f.hint,
                }
                for f in plan.findings
            ],
            "problems": [
                {
                    "code": p.code,
                    "message": p.message,
                    "hint": p.hint,
                    "severity": p.severity,
                    "source": _source(p.source),
                }
                for p in plan.problems
            ],
        },
    }


def _resource_change(change: Change) -> dict[str, Json]:
    kind = change.key.kind
    actions = ["forget", "create"] if change.retained else _ACTIONS[change.action]
    unknown: dict[str, Json] = {name: True for name, value in change.identity.items() if value == UNKNOWN}
    value: dict[str, Json] = {
        "address": change.address,
        "mode": "managed",
        "type": kind.value,
        "name": change.key.name,
        "change": {
            "actions": actions,
            "before": masked_manifest(kind, change.before),
            "after": masked_manifest(kind, change.after),
            "after_unknown": {"identity": unknown} if unknown else {},
            "before_sensitive": marks(kind, change.before),
            "after_sensitive": marks(kind, change.after),
            "replace_paths": [list(d.path) for d in change.diffs if d.forces_replacement],
        },
        "reconciler": {
            "reason_code": change.reason_code,
            "reason": change.reason,
            "source": _source(change.source),
            "server": change.server,
            "previous_server": change.previous_server,
            "risks": [r.value for r in change.risks],
            "identity": dict(change.identity),
            "fields": [
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
            "steps": [{"op": s.op, "key": s.key, "summary": s.summary} for s in change.steps],
        },
    }
    if change.previous is not None:
        value["previous_address"] = str(change.previous)
    if (reason := _ACTION_REASONS.get(change.action)) is not None:
        value["action_reason"] = reason
    return value


def _drift(items: list[DriftItem]) -> dict[str, Json]:
    """One resource's drift: the fields of its steps, as applied and as observed."""
    first = items[0]
    gone = all(item.action == "create" for item in items)
    return {
        "address": str(first.key),
        "mode": "managed",
        "type": first.key.kind.value,
        "name": first.key.name,
        "change": {
            "actions": ["delete"] if gone else ["update"],
            "before": {i.step: {field: applied for field, applied, _ in i.changes} for i in items},
            "after": None if gone else {i.step: {field: seen for field, _, seen in i.changes} for i in items},
            "after_unknown": {},
            "before_sensitive": False,
            "after_sensitive": False,
        },
        "reconciler": {
            "server": first.server,
            "steps": [{"step": i.step, "action": i.action, "note": i.note} for i in items],
        },
    }


def _check(finding: Finding) -> dict[str, Json]:
    status = "fail" if finding.blocking else "pass"
    name = f"guard.{finding.code}"
    return {
        "address": {"kind": "check", "name": finding.code, "to_display": name},
        "status": status,
        "instances": [
            {
                "address": {"to_display": name},
                "status": status,
                "problems": [{"message": finding.message}] if finding.blocking else [],
            }
        ],
    }


def _source(source: Source | None) -> Json:
    return None if source is None else {"path": source.path, "line": source.line, "column": source.column}
