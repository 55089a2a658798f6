"""Empties the outbox: one lane a channel, so that a dead one holds up no other."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, assert_never

from reconciler.errors import SettingsFault, StoreBusy
from reconciler.kit.clock import Clock
from reconciler.notify import forms, notice, outbox
from reconciler.notify.alerts import Alert, observe
from reconciler.notify.mail import MailSender
from reconciler.notify.outbox import Timing
from reconciler.notify.outcome import Failed, Outcome, Sender
from reconciler.notify.posting import HttpSender, open_client
from reconciler.notify.settings import Channel, MailChannel, MatrixChannel, SlackChannel, WebhookChannel
from reconciler.store import Store, Tx
from reconciler.store.queries import alerts, deliveries
from reconciler.store.queries.deliveries import Delivery

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LOOK = 10.0  # seconds between looks at the outbox, when nobody calls `wake`
_LONGEST_PAUSE = 3600.0  # seconds that a channel which asked for a pause is left alone at most
_DAY = 86400.0


@dataclass
class _Lane:
    channel: Channel
    sender: Sender
    news: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _Step:
    """What a look at the outbox led to. `wait`: seconds until there may be more to do; `pause`: so the channel asked."""

    attempts: int = 0
    wait: float = 0.0
    pause: float = 0.0


def _uncounted(channel: str, result: str) -> None:
    pass


class Notifier:
    """Tells `channels` what `observe` found. `run` it once per process; its state is in the store alone.

    `client` opens the HTTP client that all channels share, `tls` makes the trust for mail servers. `count` is called
    with a channel's name and `delivered`, `retry` or `given_up` after each attempt. SettingsFault when two channels
    have one name.
    """

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        *,
        clock: Clock,
        client: Callable[[], httpx.AsyncClient] = open_client,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        count: Callable[[str, str], None] = _uncounted,
        timing: Timing | None = None,
    ) -> None:
        names = [channel.name for channel in channels]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise SettingsFault(
                f"two notification channels are called {doubled[0]!r}", hint="give each a name of its own"
            )
        self._store = store
        self._channels = tuple(channels)
        self._clock = clock
        self._client = client
        self._tls = tls
        self._count = count
        self._timing = timing or Timing()
        self._lanes: list[_Lane] = []

    def observe(self, tx: Tx, now_firing: Sequence[Alert]) -> None:
        """Records what is wrong now, as `reconciler.notify.alerts.observe` does; call `wake` after the write."""
        observe(tx, now_firing, self._channels, settle=self._timing.settle)

    def wake(self) -> None:
        """There may be something new in the outbox: look at once. Without this it is seen within ten seconds."""
        for lane in self._lanes:
            lane.news.set()

    async def run(self) -> None:
        """Delivers until it is cancelled. What was under way then is sent again by the next `run`, with the same id.

        StoreFault's leaves, except StoreBusy, which is waited out.
        """
        names = [channel.name for channel in self._channels]
        await self._patiently(lambda tx: outbox.abandon(tx, names))
        async with self._client() as client:
            self._lanes = [self._lane(channel, client) for channel in self._channels]
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._forget())
                    for lane in self._lanes:
                        group.create_task(self._serve(lane))
            finally:
                self._lanes = []

    async def deliver_due(self) -> int:
        """Attempts what is due now, each message once, and returns how many attempts were made."""
        async with self._client() as client:
            lanes = [self._lane(channel, client) for channel in self._channels]
            return sum(await asyncio.gather(*(self._drain(lane) for lane in lanes)))

    def _lane(self, channel: Channel, client: httpx.AsyncClient) -> _Lane:
        return _Lane(channel, _sender(channel, client, self._clock, self._tls))

    async def _serve(self, lane: _Lane) -> None:
        while True:
            lane.news.clear()
            try:
                step = await self._step(lane)
            except StoreBusy:
                step = _Step(wait=_LOOK)
            if step.pause:
                await asyncio.sleep(min(step.pause, _LONGEST_PAUSE))
            elif step.wait:
                try:
                    async with asyncio.timeout(min(step.wait, _LOOK)):
                        await lane.news.wait()
                except TimeoutError:
                    pass

    async def _drain(self, lane: _Lane) -> int:
        attempts = 0
        while (step := await self._step(lane)).attempts:
            attempts += step.attempts
            if step.pause:
                break
        return attempts

    async def _step(self, lane: _Lane) -> _Step:
        name, sender = lane.channel.name, lane.sender
        heads = await self._store.aread(lambda tx: deliveries.heads(tx, name))
        if not heads:
            return _Step(wait=_LOOK)
        wait = (heads[0].next_at - self._clock()).total_seconds()
        if wait > 0:
            return _Step(wait=wait)
        limit = sender.batch * sender.at_once
        claimed = await self._store.awrite(lambda tx: outbox.claim(tx, name, limit, self._timing))
        messages = [claimed[place : place + sender.batch] for place in range(0, len(claimed), sender.batch)]
        outcomes = await asyncio.gather(*(self._tell(lane, message) for message in messages))
        pauses = [outcome.retry_after or 0.0 for outcome in outcomes if isinstance(outcome, Failed)]
        # nothing claimed although a head is due: the store's clock is a moment behind
        return _Step(attempts=len(messages), wait=0.0 if messages else 1.0, pause=max(pauses, default=0.0))

    async def _tell(self, lane: _Lane, message: Sequence[Delivery]) -> Outcome:
        name = lane.channel.name
        outcome: Outcome
        try:
            outcome = await lane.sender.send([notice.read(delivery) for delivery in message])
        except Exception:  # noqa: BLE001 - a mistake of ours in one message must not silence the channel
            _log.exception("channel %s: a notification could not be made", name)
            outcome = Failed("an internal error, see the log")
        words = await self._patiently(
            lambda tx: [outbox.settle(tx, delivery, outcome, self._timing) for delivery in message]
        )
        for word in words:
            self._count(name, word)
        if isinstance(outcome, Failed):
            _log.warning("channel %s was not told: %s", name, outcome.error)
        return outcome

    async def _forget(self) -> None:
        while True:
            await self._patiently(lambda tx: alerts.prune(tx, tx.now - self._timing.keep))
            await asyncio.sleep(_DAY)

    async def _patiently(self, unit: Callable[[Tx], T]) -> T:
        while True:
            try:
                return await self._store.awrite(unit)
            except StoreBusy:
                await asyncio.sleep(_LOOK)


def _sender(
    channel: Channel, client: httpx.AsyncClient, clock: Clock, tls: Callable[[], ssl.SSLContext]
) -> Sender:
    match channel:
        case WebhookChannel():
            return HttpSender(client, clock, forms.webhook(channel, clock), [channel.url, *channel.secrets])
        case SlackChannel():
            return HttpSender(client, clock, forms.slack(channel), [channel.url])
        case MatrixChannel():
            return HttpSender(client, clock, forms.matrix(channel), [channel.url, channel.token])
        case MailChannel():
            return MailSender(channel, clock, tls)
        case _:
            assert_never(channel)
