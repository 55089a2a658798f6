"""Random histories of alerts, dead channels, kills and restarts: everybody is told the truth, in order, and once."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reconciler.kit.secret import Secret
from reconciler.notify import Alert, AlertType, Notifier, Timing, WebhookChannel, outbox
from reconciler.secrets import Box
from reconciler.store import Store
from reconciler.store.queries import deliveries

from .receivers import KEY, Time

SETTLE = timedelta(minutes=1)
REMIND = timedelta(minutes=10)
TIMING = Timing(
    settle=SETTLE, first=200.0, longest=600.0, give_up_after=timedelta(days=1000), jitter=lambda: 0.5
)
OBJECTS: list[tuple[str, AlertType]] = [("shop", "Stalled"), ("shop", "Drifted"), ("blog", "Stalled")]
CHANNELS = (
    WebhookChannel("all", Secret("https://hooks.example.test/all"), remind=REMIND),
    WebhookChannel("few", Secret("https://hooks.example.test/few"), on=frozenset({"Stalled"}), remind=None),
)
Object = tuple[str, str]


@dataclass
class Inbox:
    """What a receiver heard, each message once by its id, as receivers are told to do it."""

    up: bool = True
    seen: set[str] = field(default_factory=set)
    heard: dict[Object, list[tuple[str, datetime]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, message_id: str, event: str, about: Object, at: datetime) -> None:
        if message_id not in self.seen:
            self.seen.add(message_id)
            self.heard[about].append((event, at))


def expected(seen: Iterable[tuple[datetime, bool]], now: datetime) -> list[str]:
    """What there is to tell about one object by `now`, from what was seen of it and when. Reminders apart."""
    spells: list[list[tuple[datetime, datetime | None]]] = []  # of each alert, from when to when it was there
    for at, there in seen:
        last = spells[-1][-1] if spells else None
        if there and last is None:
            spells.append([(at, None)])
        elif there and last is not None and last[1] is not None:
            if at - last[1] < SETTLE:
                spells[-1].append((at, None))
            else:
                spells.append([(at, None)])
        elif not there and last is not None and last[1] is None:
            spells[-1][-1] = (last[0], at)
    told: list[str] = []
    for alert in spells:
        due = alert[0][0] + SETTLE
        if any((end or now) >= max(begin, due) for begin, end in alert):
            told.append("firing")
            if alert[-1][1] is not None and now - alert[-1][1] >= SETTLE:
                told.append("resolved")
    return told


@cache
def _template() -> Path:
    folder = tempfile.mkdtemp(prefix="histories-")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / "state.sqlite"
    Store.create(path, Box([KEY])).close()
    return path


class Histories(RuleBasedStateMachine):
    """The real store, observer, outbox and notifier; the clock and the receivers are played."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="history-"))
        shutil.copy(_template(), self.folder / "state.sqlite")
        self.time = Time()
        self.there: set[tuple[str, AlertType]] = set()
        self.runner = asyncio.Runner()
        self.inboxes = {channel.name: Inbox() for channel in CHANNELS}
        self.seen: dict[Object, list[tuple[datetime, bool]]] = {about: [] for about in OBJECTS}
        self.store = self.open()

    def open(self) -> Store:
        return Store.open(self.folder / "state.sqlite", Box([KEY]), clock=self.time)

    def notifier(self) -> Notifier:
        return Notifier(self.store, CHANNELS, clock=self.time, client=self.client, timing=TIMING)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.receive), trust_env=False, verify=False)

    def receive(self, request: httpx.Request) -> httpx.Response:
        inbox = self.inboxes[request.url.path.removeprefix("/")]
        if not inbox.up:
            return httpx.Response(503)
        body = json.loads(request.content)
        about = (body["data"]["name"], body["data"]["type"])
        inbox.take(request.headers["webhook-id"], body["type"].removeprefix("alert."), about, self.time.now)
        return httpx.Response(204)

    @initialize()
    def begin(self) -> None:
        self.observe(set())

    @rule(there=st.sets(st.sampled_from(OBJECTS)), message=st.sampled_from(["it failed", "it failed again"]))
    def observe(self, there: set[tuple[str, AlertType]], message: str = "it failed") -> None:
        self.there = there
        firing = [
            Alert("Site", name, about, "error", "NeedsAttention", message) for name, about in sorted(there)
        ]
        self.store.write(lambda tx: self.notifier().observe(tx, firing))
        for about in OBJECTS:
            self.seen[about].append((self.time.now, about in there))

    @rule(seconds=st.sampled_from([1, 20, 40, 59, 60, 61, 200, 599, 600, 3600]))
    def wait(self, seconds: int) -> None:
        self.time.forward(seconds=seconds)

    @rule(seconds=st.sampled_from([59, 60, 200, 599, 600]), times=st.integers(1, 4))
    def go_on(self, seconds: int, times: int) -> None:
        """What is there stays, and the program runs."""
        for _ in range(times):
            self.time.forward(seconds=seconds)
            self.observe(self.there)
            self.deliver()

    @rule()
    def deliver(self) -> None:
        self.runner.run(self.notifier().deliver_due())

    @rule(name=st.sampled_from([channel.name for channel in CHANNELS]))
    def break_or_mend(self, name: str) -> None:
        self.inboxes[name].up = not self.inboxes[name].up

    @rule(name=st.sampled_from([channel.name for channel in CHANNELS]), arrived=st.booleans())
    def killed_while_sending(self, name: str, arrived: bool) -> None:
        """The attempt is recorded, the message may have arrived, and its outcome is lost."""
        claimed = self.store.write(lambda tx: outbox.claim(tx, name, 2, TIMING))
        for one in claimed if arrived else []:
            about = (one.payload["name"], one.payload["type"])
            self.inboxes[name].take(one.id, one.event, about, self.time.now)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.open()

    @invariant()
    def nobody_hears_nonsense(self) -> None:
        for channel in CHANNELS:
            for about, heard in self.inboxes[channel.name].heard.items():
                assert not heard or about[1] in channel.on
                believed = False
                last = datetime.min.replace(tzinfo=self.time.now.tzinfo)
                for event, at in heard:
                    if event == "firing":
                        assert not believed, f"{about} was told twice: {heard}"
                    else:
                        assert believed, f"{about} was never told: {heard}"
                    if event == "reminder":
                        assert channel.remind is not None
                        assert at - last >= channel.remind, f"{about} was repeated too soon: {heard}"
                    believed, last = event != "resolved", at

    def teardown(self) -> None:
        """Once the channels live and time has passed, each has heard exactly what there was to tell."""
        try:
            for inbox in self.inboxes.values():
                inbox.up = True
            self.time.forward(minutes=2)
            for _ in range(20):  # a message waits for the one before it
                self.time.forward(minutes=2)
                self.deliver()
            for channel in CHANNELS:
                name = channel.name
                assert self.store.read(lambda tx, n=name: deliveries.heads(tx, n)) == []  # type: ignore[misc]
                for about in OBJECTS:
                    heard = [event for event, _ in self.inboxes[name].heard[about] if event != "reminder"]
                    wanted = expected(self.seen[about], self.time.now) if about[1] in channel.on else []
                    assert heard == wanted, f"{name} about {about}: {self.seen[about]}"
            self.nobody_hears_nonsense()
        finally:
            self.store.close()
            self.runner.close()
            shutil.rmtree(self.folder)


_RANDOM = int(os.environ.get("RECONCILER_HISTORIES", "0"))  # play that many new ones instead
Histories.TestCase.settings = settings(
    max_examples=_RANDOM or 30,
    stateful_step_count=40,
    deadline=None,
    derandomize=not _RANDOM,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
