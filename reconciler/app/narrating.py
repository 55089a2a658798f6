"""The loop's progress as log records, with the deployment in each."""

from __future__ import annotations

from reconciler.converge import narrate
from reconciler.converge.progress import Result
from reconciler.desired.fleet import Key
from reconciler.nodes.answers import Event
from reconciler.telemetry import logs

log = logs.get("reconciler.converge")


class LogProgress:
    """Tells the log. Fulfils `converge.progress.Progress`."""

    def node(self, server: str, text: str) -> None:
        """As the protocol says."""
        log.debug(text, server=server)

    def started(self, key: Key, action: str, deployment: str) -> None:
        """As the protocol says."""
        log.info("reconciling", resource=str(key), action=action, deployment=deployment)

    def event(self, server: str, event: Event, deployment: str) -> None:
        """As the protocol says. What programs say on their standard error is rarely a fault, and the deployment has it."""
        if narrate.is_fault(event) and (text := narrate.words(event).strip()):
            told = log.debug if event.type == "log" else log.warning
            told(text, server=server, section=event.section or None, deployment=deployment or None)

    def finished(self, result: Result) -> None:
        """As the protocol says."""
        told = log.info if result.state == "succeeded" else log.warning
        told(
            result.message,
            resource=str(result.key),
            action=result.action,
            result=result.state,
            deployment=result.deployment or None,
            seconds=round(result.seconds, 3),
        )
