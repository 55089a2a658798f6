"""The result of an apply, also of one whose runner died."""

from typing import Any, Dict, List

from . import cancel, journal
from .journal import Journal
from .section import State


def settled(
    deployment: str,
    states: List[State],
    reloaded: List[str],
    started_at: str,
    versions: Dict[str, str],
    *,
    cancelled: bool,
) -> Dict[str, Any]:
    """The Outcome of an apply that came to its end."""
    failed = any(state.state in ("failed", "skipped") for state in states)
    return {
        "deployment": deployment,
        "state": "failed" if failed else "succeeded",
        "cancelled": cancelled,
        "sections": {state.section.id: state.value() for state in states},
        "reloaded": reloaded,
        "versions": versions,
        "started_at": started_at,
        "finished_at": journal.now(),
    }


def interrupted(deployment: str) -> Dict[str, Any]:
    """The Outcome of an apply whose runner is gone, put together from its journal."""
    wanted = journal.intent(deployment)
    events = journal.events(deployment)
    sections: Dict[str, Dict[str, Any]] = {}
    for event in events:
        if event["type"] == "section_started":
            sections[event["section"]] = _section("failed", "the apply was interrupted in this section")
        elif event["type"] == "section_done":
            changed = int(event.get("changed", 0))
            sections[event["section"]] = dict(
                _section("succeeded" if changed else "unchanged", ""), changed=changed
            )
        elif event["type"] == "section_failed":
            sections[event["section"]] = _section("failed", event.get("message", ""))
        elif event["type"] == "section_skipped":
            sections[event["section"]] = _section("skipped", event.get("message", ""))
    for name in wanted.get("sections", []):
        sections.setdefault(name, _section("skipped", "the apply was interrupted before this section"))
    at = wanted.get("at", journal.now())
    return {
        "deployment": deployment,
        "state": "interrupted",
        "cancelled": cancel.is_asked(deployment),
        "doubt": journal.doubt(deployment),
        "sections": sections,
        "reloaded": [e["unit"] for e in events if e["type"] in ("reload", "restart") and e.get("ok")],
        "started_at": events[0]["at"] if events else at,
        "finished_at": events[-1]["at"] if events else at,
    }


def _section(state: str, message: str) -> Dict[str, Any]:
    return {"state": state, "changed": 0, "message": message, "kept": []}


def crashed(deployment: str, message: str, events: Journal) -> Dict[str, Any]:
    """The Outcome of a runner that met a fault of its own: interrupted, with the fault in each open section."""
    result = interrupted(deployment)
    for section in result["sections"].values():
        if section["message"].startswith("the apply was interrupted"):
            section["message"] = message
    events.event("apply_done", message=message)
    return result
