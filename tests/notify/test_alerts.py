"""What is told, when things begin, last, end, and come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.kit.secret import Secret
from reconciler.notify import Alert, Channel, SlackChannel, WebhookChannel, observe
from reconciler.store import Store
from reconciler.store.queries import alerts, deliveries
from reconciler.store.queries.alerts import StoredAlert

from .receivers import NOON, Time, alert, stalled

OPS = WebhookChannel("ops", Secret("https://hooks.example.test/x"))
CHAT = SlackChannel("chat", Secret("https://chat.example.test/x"), frozenset({"Drifted"}))
MINUTE = timedelta(minutes=1)


class Desk:
    """Sees alerts at moments of time, and reads the outbox."""

    def __init__(self, store: Store, time: Time) -> None:
        self.store = store
        self.time = time
        self.channels: Sequence[Channel] = (OPS,)

    def see(self, *firing: Alert, after: float = 0.0) -> None:
        self.time.forward(seconds=after)
        self.store.write(lambda tx: observe(tx, firing, self.channels))

    def send(self, channel: str = "ops") -> None:
        """All that is due is delivered."""
        from reconciler.notify import outbox
        from reconciler.notify.outcome import Delivered

        timing = outbox.Timing()

        def deliver(tx: object) -> None:
            for delivery in outbox.claim(tx, channel, 100, timing):  # type: ignore[arg-type]
                outbox.settle(tx, delivery, Delivered(), timing)  # type: ignore[arg-type]

        self.store.write(deliver)

    def alerts(self) -> list[StoredAlert]:
        return list(reversed(self.store.read(alerts.listed)))

    def outbox(self, channel: str = "ops") -> list[tuple[str, float]]:
        """Messages for a channel and the seconds until each is due."""
        found = [
            delivery
            for row in self.alerts()
            for delivery in self.store.read(lambda tx, row=row: deliveries.of_alert(tx, row.id))  # type: ignore[misc]
        ]
        return [
            (one.event, (one.next_at - self.time.now).total_seconds())
            for one in found
            if one.channel == channel
        ]


@pytest.fixture
def desk(store: Store, time: Time) -> Desk:
    return Desk(store, time)


def test_a_new_alert_is_held_for_a_minute_and_then_told(desk: Desk) -> None:
    desk.see(stalled())
    (row,) = desk.alerts()
    assert (row.kind, row.name, row.type, row.state) == ("Site", "shop", "Stalled", "new")
    assert (row.first_at, row.resolved_at, row.notified_at) == (NOON, None, None)
    assert desk.outbox() == [("firing", 60.0)]


def test_while_it_stands_nothing_more_is_said(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    for _ in range(10):
        desk.see(stalled(message="another one"), after=600)
    (row,) = desk.alerts()
    assert row.state == "ongoing"
    assert row.message == "another one"
    assert row.last_at == desk.time.now
    assert row.notified_at == NOON + MINUTE
    assert len(desk.outbox()) == 1


def test_what_is_over_before_anybody_was_told_is_never_told(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(after=59)
    assert desk.outbox() == []
    (row,) = desk.alerts()
    assert (row.state, row.resolved_at) == ("resolved", NOON + timedelta(seconds=59))


def test_the_end_is_told_after_it_lasted_a_minute(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    desk.see(after=300)
    assert desk.outbox()[1:] == [("resolved", 60.0)]
    desk.see(after=60)
    desk.send()
    desk.see(after=3600)
    assert [event for event, _ in desk.outbox()] == ["firing", "resolved"]


def test_a_pause_shorter_than_a_minute_was_none(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    for _ in range(5):
        desk.see(after=59)
        desk.see(stalled(), after=59)
    assert [event for event, _ in desk.outbox()] == ["firing"]
    (row,) = desk.alerts()
    assert (row.state, row.first_at, row.resolved_at) == ("ongoing", NOON, None)


def test_one_that_flickers_is_told_once_it_has_gone_on_for_a_minute(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(after=30)
    assert desk.outbox() == []
    desk.see(stalled(), after=20)
    assert desk.outbox() == [("firing", 10.0)]
    desk.see(after=5)
    desk.see(stalled(), after=30)
    assert desk.outbox() == [("firing", 0.0)]


def test_a_minute_after_its_end_it_is_another_alert(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    desk.see(after=1)
    desk.see(stalled(), after=60)
    assert [row.state for row in desk.alerts()] == ["resolved", "new"]
    assert desk.outbox()[1:] == [("resolved", 0.0), ("firing", 60.0)]


def test_a_beginning_that_was_due_is_told_even_when_it_is_over_by_then(desk: Desk) -> None:
    # the program was stopped in between, or the channel was dead
    desk.see(stalled())
    desk.see(after=3600)
    assert desk.outbox() == [("firing", -3540.0), ("resolved", 60.0)]


def test_reminders_come_after_the_interval_and_only_then(desk: Desk) -> None:
    desk.channels = (replace(OPS, remind=timedelta(hours=2)),)
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    desk.see(stalled(), after=7199)
    assert len(desk.outbox()) == 1
    desk.see(stalled(), after=1)
    assert desk.outbox()[1:] == [("reminder", 0.0)]
    desk.see(stalled(), after=7200)
    assert len(desk.outbox()) == 2, "the first reminder has not been delivered yet"
    desk.send()
    desk.see(stalled(), after=7200)
    assert [event for event, _ in desk.outbox()] == ["firing", "reminder", "reminder"]


def test_without_an_interval_there_are_no_reminders(desk: Desk) -> None:
    desk.channels = (replace(OPS, remind=None),)
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    desk.see(stalled(), after=10**8)
    assert len(desk.outbox()) == 1


def test_channels_are_told_of_the_types_they_want(desk: Desk) -> None:
    desk.channels = (OPS, CHAT)
    desk.see(stalled(), alert("blog", "Drifted"))
    assert len(desk.outbox("ops")) == 2
    assert len(desk.outbox("chat")) == 1


def test_channels_do_not_depend_on_each_other(desk: Desk) -> None:
    other = replace(OPS, name="other")
    desk.channels = (OPS, other)
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send("ops")  # the other one is dead
    desk.see(stalled(), after=90_000)
    assert [event for event, _ in desk.outbox("ops")] == ["firing", "reminder"]
    assert [event for event, _ in desk.outbox("other")] == ["firing"]


def test_a_new_channel_is_told_of_what_stands_and_not_of_what_was(desk: Desk) -> None:
    desk.see(stalled(), stalled("gone"))
    desk.see(stalled(), after=600)
    desk.send()
    desk.channels = (OPS, replace(OPS, name="late"))
    desk.see(stalled(), after=600)
    assert desk.outbox("late") == [("firing", 0.0)]


def test_the_end_is_told_although_the_type_is_not_wanted_any_more(desk: Desk) -> None:
    desk.see(stalled())
    desk.see(stalled(), after=60)
    desk.send()
    desk.channels = (replace(OPS, on=frozenset({"Drifted"})),)
    desk.see(stalled(), after=90_000)
    desk.see(after=60)
    assert [event for event, _ in desk.outbox()] == ["firing", "resolved"]


def test_two_types_of_one_object_are_two_alerts(desk: Desk) -> None:
    desk.see(stalled(), alert("shop", "Drifted"))
    desk.see(stalled(), after=60)
    assert {(row.type, row.state) for row in desk.alerts()} == {
        ("Stalled", "ongoing"),
        ("Drifted", "resolved"),
    }


def test_one_that_is_named_twice_is_told_once_with_the_worse_severity(desk: Desk) -> None:
    desk.see(alert("shop", "NotReady", severity="warning"), alert("shop", "NotReady", severity="error"))
    (row,) = desk.alerts()
    assert row.severity == "error"
    assert len(desk.outbox()) == 1


def test_what_may_have_been_told_already_is_not_taken_back(desk: Desk) -> None:
    # the attempt began, and the clock was set back before its outcome was known
    from reconciler.notify import outbox

    desk.see(stalled())
    desk.time.forward(seconds=60)
    desk.store.write(lambda tx: outbox.claim(tx, "ops", 1, outbox.Timing()))
    desk.see(after=-30)
    assert [event for event, _ in desk.outbox()] == ["firing", "resolved"]


def test_old_alerts_are_forgotten_once_nothing_is_owed(desk: Desk) -> None:
    desk.see(stalled(), stalled("owed"))
    desk.see(stalled("owed"), after=60)
    desk.send()
    desk.see(after=3600)
    desk.time.forward(hours=24 * 40)
    before = desk.time.now - timedelta(days=30)
    assert desk.store.write(lambda tx: alerts.prune(tx, before)) == 0, "their ends are still to be told"
    desk.send()
    assert desk.store.write(lambda tx: alerts.prune(tx, before)) == 2
    assert desk.outbox() == []


def test_counts_are_of_what_stands(desk: Desk) -> None:
    desk.see(stalled(), stalled("blog"))
    desk.see(stalled(), stalled("late"), after=60)
    assert desk.store.read(alerts.counts) == {"ongoing": 1, "new": 1}
    assert [row.name for row in desk.store.read(lambda tx: alerts.listed(tx, firing=False))] == ["blog"]
