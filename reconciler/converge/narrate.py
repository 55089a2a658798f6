"""An agent's events as the lines that a deployment keeps and a person reads while it runs."""

from __future__ import annotations

from reconciler.nodes.answers import Event

_STDERR = frozenset({"step_failed", "section_failed", "section_skipped"})


def is_fault(event: Event) -> bool:
    """Whether the event belongs on the deployment's standard error."""
    return (
        event.type in _STDERR
        or event.data.get("ok") is False
        or (event.type == "log" and event.data.get("stream") == "stderr")
    )


def line(event: Event) -> str:
    """One line for an event, ending in a newline; empty for events that say nothing to a person."""
    text = words(event)
    return f"{event.at[11:19]} {text}\n" if text else ""


def words(event: Event) -> str:
    """The line of an event without the time and its end."""
    data = event.data
    match event.type:
        case "step_started":
            return f"{data.get('action', 'apply')} {event.key}"
        case "step_failed":
            return f"failed {event.key}: {data.get('message', '')}"
        case "log":
            return f"| {str(data.get('text', '')).rstrip()}"
        case "validate":
            verdict = "valid" if data.get("ok") else f"rejected: {data.get('message', '')}"
            return f"validate {data.get('name', '')}: {verdict}"
        case "rolled_back":
            return f"rolled back {event.key}"
        case "reload" | "restart":
            failed = "" if data.get("ok") else f": {data.get('message', '')}"
            return f"{event.type} {data.get('unit', '')}{failed}"
        case "section_done":
            changed = data.get("changed", 0)
            return f"done, {changed} {'step' if changed == 1 else 'steps'} changed"
        case "section_failed" | "section_skipped":
            word = "failed" if event.type == "section_failed" else "skipped"
            return f"{word}: {data.get('message', '')}"
        case "cancelled":
            return "cancelled: the step that runs is finished, what is left is not begun"
        case _:
            return ""
