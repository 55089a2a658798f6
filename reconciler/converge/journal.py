"""Writes what a node tells into the deployments of its resources, a section at a time and masked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from reconciler.converge import narrate
from reconciler.converge.progress import Progress
from reconciler.nodes.answers import Event
from reconciler.record import deployments as record
from reconciler.record import software
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.queries import deployments
from reconciler.store.queries.deployments import Stream

_FLUSH_AFTER = 64
_ENDS = frozenset({"section_done", "section_failed", "section_skipped", "apply_done"})


class Journal:
    """Follows one node's apply. `of` maps a section's id to its deployment.

    `written` is what the deployments hold already, should the apply be followed for the second time: nothing is written
    twice. `software` tells by key which steps install or remove a piece of software, so that its record follows.
    """

    def __init__(
        self,
        store: Store,
        server: str,
        of: Mapping[str, str],
        redact: Redactor,
        progress: Progress,
        written: Mapping[tuple[str, Stream], str] | None = None,
        software: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._server = server
        self._of = of
        self._redact = redact
        self._progress = progress
        self._waiting: dict[tuple[str, Stream], list[str]] = defaultdict(list)
        self._written = dict(written or {})
        self._count = 0
        self._software = software or {}
        self._begun: list[str] = []
        self._told: set[str] = set()

    async def __call__(self, event: Event) -> None:
        """Take one event."""
        self._progress.event(self._server, self._masked(event), self._of.get(event.section, ""))
        for section in self._concerned(event):
            if text := narrate.line(event):
                stream: Stream = "stderr" if narrate.is_fault(event) else "stdout"
                self._take(section, stream, self._redact(text))
        if event.type == "step_started":
            self._begins(self._software.get(event.key, ""))
        begins = event.type == "section_started" and event.section in self._of
        if begins or self._begun or event.type in _ENDS or self._count >= _FLUSH_AFTER:
            await self.flush(event.section if begins else "")

    def _masked(self, event: Event) -> Event:
        """The event without secrets: it goes to people and logs as well."""
        data = {name: self._redact(v) if isinstance(v, str) else v for name, v in event.data.items()}
        return replace(event, data=data)

    def _begins(self, software: str) -> None:
        if software and software not in self._told:
            self._told.add(software)
            self._begun.append(software)

    def _take(self, section: str, stream: Stream, text: str) -> None:
        known = self._written.get((section, stream), "")
        if known.startswith(text):
            self._written[section, stream] = known[len(text) :]
            return
        self._waiting[section, stream].append(text)
        self._count += 1

    def _concerned(self, event: Event) -> tuple[str, ...]:
        """Its own section; what concerns the node as a whole goes to every resource that the apply touches."""
        if event.section:
            return (event.section,) if event.section in self._of else ()
        return tuple(self._of)

    async def flush(self, starting: str = "") -> None:
        """Write what is waiting; `starting` is a section whose deployment begins to run."""
        waiting, self._waiting, self._count = self._waiting, defaultdict(list), 0
        begun, self._begun = self._begun, []

        def unit(tx: Tx) -> None:
            if starting:
                record.start(tx, self._of[starting])
            for name in begun:
                software.begins(tx, self._server, name)
            for (section, stream), texts in waiting.items():
                deployments.append_output(tx, self._of[section], stream, "".join(texts))

        if starting or waiting or begun:
            await self._store.awrite(unit)
