"""The outbox over time: retries, giving up, restarts, channels that are dead, order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.errors import SettingsFault, StoreBusy
from reconciler.kit.secret import Secret
from reconciler.notify import Notifier, Timing, WebhookChannel
from reconciler.notify.outcome import delay
from reconciler.secrets import Box
from reconciler.store import Store
from reconciler.store.queries import alerts, deliveries, events
from tests.loop.health_servers import closed_port

from .receivers import KEY, Receiver, Time, hook, quick_client, reply, see, stalled

EVEN = Timing(jitter=lambda: 0.5)


@asynccontextmanager
async def running(notifier: Notifier) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(notifier.run())
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def heads(store: Store, channel: str = "ops") -> list[deliveries.Delivery]:
    return store.read(lambda tx: deliveries.heads(tx, channel))


async def test_run_delivers_what_becomes_due(store: Store, time: Time, receiver: Receiver) -> None:
    notifier = Notifier(store, [hook(receiver)], clock=time)
    async with running(notifier):
        await see(store, notifier, stalled())
        notifier.wake()
        await asyncio.sleep(0.1)
        assert receiver.events == []
        time.forward(seconds=60)
        notifier.wake()
        await until(lambda: receiver.events == ["firing Site/shop"])
        await see(store, notifier)
        time.forward(seconds=60)
        notifier.wake()
        await until(lambda: receiver.events == ["firing Site/shop", "resolved Site/shop"])


async def test_a_dead_channel_holds_up_no_other(store: Store, time: Time, receiver: Receiver) -> None:
    async with Receiver() as silent:
        silent.answers.extend([None] * 20)
        channels = [
            hook(silent, "dead"),
            hook(receiver, "ops"),
            WebhookChannel("none", Secret(f"http://127.0.0.1:{closed_port()}/")),
        ]
        notifier = Notifier(store, channels, clock=time)
        await see(store, notifier, *(stalled(f"s{number}") for number in range(10)))
        time.forward(seconds=60)
        async with running(notifier):
            await until(lambda: len(receiver.events) == 10)
            assert len(silent.requests) <= 4
            await see(store, notifier)
            time.forward(seconds=60)
            notifier.wake()
            await until(lambda: len(receiver.events) == 20)


async def test_attempts_are_spaced_wider_each_time(store: Store, time: Time, receiver: Receiver) -> None:
    receiver.answers.extend([reply(500)] * 12)
    notifier = Notifier(store, [hook(receiver)], clock=time, client=quick_client, timing=EVEN)
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    waits = []
    for _ in range(12):
        assert await notifier.deliver_due() == 1
        waits.append((heads(store)[0].next_at - time.now).total_seconds())
        time.now = heads(store)[0].next_at - timedelta(seconds=1)
        assert await notifier.deliver_due() == 0
        time.forward(seconds=1)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]
    assert await notifier.deliver_due() == 1
    assert heads(store) == []


def test_waits_spread_by_a_quarter_and_never_overflow() -> None:
    assert delay(1, 5, 900, lambda: 0.0) == 3.75
    assert delay(1, 5, 900, lambda: 1.0) == 6.25
    assert delay(10**9, 5, 900, lambda: 0.5) == 900


async def test_after_a_day_a_message_is_given_up_with_an_event(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.extend([reply(500, b"down")] * 500)
    counted: list[tuple[str, str]] = []
    timing = replace(EVEN, longest=7200.0)
    notifier = Notifier(
        store,
        [hook(receiver)],
        clock=time,
        client=quick_client,
        timing=timing,
        count=lambda *one: counted.append(one),
    )
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    while heads(store):
        await notifier.deliver_due()
        time.forward(hours=2)
    (row,) = store.read(alerts.listed)
    (delivery,) = store.read(lambda tx: deliveries.of_alert(tx, row.id))
    assert delivery.given_up_at is not None
    assert timedelta(hours=24) <= delivery.given_up_at - delivery.created_at < timedelta(hours=26, minutes=2)
    (event,) = store.read(lambda tx: events.listed(tx, kind="Site", name="shop"))
    assert (event.type, event.reason) == ("Warning", "NotificationFailed")
    assert event.message == "channel ops was not told that Stalled is firing: it answered 500: down"
    assert set(counted[:-1]) == {("ops", "retry")}
    assert counted[-1] == ("ops", "given_up")


async def test_one_that_waited_through_a_long_stop_is_tried_before_it_is_given_up(
    store: Store, time: Time, receiver: Receiver
) -> None:
    notifier = Notifier(store, [hook(receiver)], clock=time)
    await see(store, notifier, stalled())
    time.forward(hours=100)
    assert await notifier.deliver_due() == 1
    assert receiver.events == ["firing Site/shop"]


async def test_the_end_waits_for_the_beginning(store: Store, time: Time, receiver: Receiver) -> None:
    receiver.answers.append(reply(429, b"", "Retry-After: 600"))
    notifier = Notifier(store, [hook(receiver)], clock=time)
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    await notifier.deliver_due()
    await see(store, notifier)
    time.forward(seconds=61)
    await see(store, notifier, stalled())
    time.forward(seconds=61)
    assert await notifier.deliver_due() == 0
    time.forward(seconds=600)
    assert await notifier.deliver_due() == 3
    assert receiver.events[1:] == ["firing Site/shop", "resolved Site/shop", "firing Site/shop"]


async def test_after_a_kill_the_message_is_sent_again_under_its_id(
    store: Store, time: Time, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answers.append(None)  # it took the request, and we end before its answer
    first = Notifier(store, [hook(receiver)], clock=time)
    await see(store, first, stalled())
    time.forward(seconds=60)
    async with running(first):
        await until(lambda: len(receiver.requests) == 1)
    store.close()
    time.forward(seconds=30)
    with Store.open(store.path, Box([KEY]), clock=time) as opened:
        second = Notifier(opened, [hook(receiver)], clock=time)
        async with running(second):
            await until(lambda: len(receiver.requests) == 2)
            await until(lambda: heads(opened) == [])
        await see(opened, second, stalled())
        assert heads(opened) == [], "it was told, and a restart does not change that"
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert ids[0] == ids[1]


async def test_what_is_for_a_channel_that_was_removed_is_given_up(
    store: Store, time: Time, receiver: Receiver
) -> None:
    old = Notifier(store, [hook(receiver, "old"), hook(receiver)], clock=time)
    await see(store, old, stalled())
    time.forward(seconds=60)
    async with running(Notifier(store, [hook(receiver)], clock=time)):
        await until(lambda: len(receiver.events) == 1 and heads(store, "old") == [])
    (event,) = store.read(lambda tx: events.listed(tx, kind="Site", name="shop"))
    assert event.message.endswith("the settings have no such channel any more")


async def test_a_channel_that_asked_for_a_pause_is_left_alone(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.append(reply(429, b"", "Retry-After: 3000"))
    receiver.answers.extend([reply(429, b"", "Retry-After: 3000")] * 3)
    notifier = Notifier(store, [hook(receiver)], clock=time)
    await see(store, notifier, *(stalled(f"s{number}") for number in range(20)))
    time.forward(seconds=60)
    async with running(notifier):
        await until(lambda: len(receiver.requests) == 4)
        notifier.wake()
        await asyncio.sleep(0.2)
        assert len(receiver.requests) == 4


async def test_a_busy_database_is_waited_out(
    store: Store, time: Time, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.notify import notifier as module

    monkeypatch.setattr(module, "_LOOK", 0.01)
    real = store.awrite
    busy: Iterator[bool] = iter([True, True, False, True, False, True, True])

    async def sometimes(unit: Callable[..., object]) -> object:
        if next(busy, False):
            raise StoreBusy("another process writes")
        return await real(unit)

    notifier = Notifier(store, [hook(receiver)], clock=time)
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    monkeypatch.setattr(store, "awrite", sometimes)
    async with running(notifier):
        await until(lambda: heads(store) == [])
    assert len(receiver.requests) == 1


async def test_a_mistake_of_ours_in_one_message_does_not_silence_the_channel(
    store: Store, time: Time, receiver: Receiver
) -> None:
    notifier = Notifier(store, [hook(receiver)], clock=time)
    await see(store, notifier, stalled("bad"), stalled("good"))
    (bad,) = [one for one in heads(store) if one.payload["name"] == "bad"]
    store.write(lambda tx: deliveries.change(tx, bad.id, {"payload": {"senseless": 1}}))
    time.forward(seconds=60)
    await notifier.deliver_due()
    assert receiver.events == ["firing Site/good"]
    assert [one.error for one in heads(store)] == ["an internal error, see the log"]


def test_two_channels_of_one_name_are_refused(store: Store, time: Time, receiver: Receiver) -> None:
    with pytest.raises(SettingsFault, match="two notification channels are called 'ops'"):
        Notifier(store, [hook(receiver), hook(receiver)], clock=time)


async def test_without_channels_alerts_are_recorded_all_the_same(store: Store, time: Time) -> None:
    notifier = Notifier(store, [], clock=time)
    await see(store, notifier, stalled())
    async with running(notifier) as task:
        await asyncio.sleep(0.05)
        assert not task.done()
    assert [row.state for row in store.read(alerts.listed)] == ["new"]
