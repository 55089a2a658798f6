"""`reconciler events`: what is printed, in which order, and following it from another process."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from reconciler.cli.events import FIRST, Reader, readable
from reconciler.store.queries import events
from tests.cli.recorded import Recorded


@pytest.fixture
def state(tmp_path: Path) -> Recorded:
    return Recorded.make(tmp_path / "state")


def test_events_are_printed_oldest_first_on_a_line_each(state: Recorded) -> None:
    state.event("shop", "the site is in sync", ago=60)
    state.event("crm", "failed:\nnginx: \x1b[31mbad", warning=True)
    told = state.run("events")
    assert told.code == 0
    first, second = told.out.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d [\d:]{8}  Normal   Site/shop         Said +the site is in sync", first
    )
    assert second.endswith("failed: nginx: [31mbad")
    assert "Warning" in second
    assert "\x1b" not in told.out


def test_json_is_an_object_a_line(state: Recorded) -> None:
    state.event("shop", "a\nb", warning=True)
    state.event("main", "a revision", kind="Fleet")
    first, second = state.run("events", "--output", "json").lines
    assert first["message"] == "a\nb"
    assert (first["type"], first["resource"], first["reason"], first["deployment"]) == (
        "Warning", "Site/shop", "Said", None,
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", first["time"])
    assert second["resource"] == "Fleet/main"


def test_events_are_narrowed_by_kind_name_and_time(state: Recorded) -> None:
    state.event("shop", "old", ago=7200)
    state.event("shop", "new")
    state.event("shop", "other kind", kind="Database")
    state.event("main", "fleet", kind="Fleet")

    def messages(*words: str) -> list[str]:
        return [event["message"] for event in state.run("events", "--output", "json", *words).lines]

    assert messages() == ["old", "new", "other kind", "fleet"]
    assert messages("--kind", "site") == ["old", "new"]
    assert messages("--kind", "Site", "--since", "1h") == ["new"]
    assert messages("--name", "shop") == ["old", "new", "other kind"]
    assert messages("--kind", "FLEET") == ["fleet"]
    assert messages("--since", "3h") == ["old", "new", "other kind", "fleet"]
    nothing = state.run("events", "--name", "nobody")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "No events.\n")
    wrong = state.run("events", "--since", "yesterday")
    assert wrong.code == 2
    assert "1h30m" in wrong.err


def test_all_of_a_time_are_printed_and_the_newest_without_one(state: Recorded) -> None:
    with state.store() as store:
        store.write(
            lambda tx: [events.add(tx, "Site", "shop", reason="Said", message=str(n)) for n in range(450)]
        )
    assert [e["message"] for e in state.run("events", "--output", "json").lines] == [
        str(n) for n in range(450 - FIRST, 450)
    ]
    assert len(state.run("events", "--since", "1h").out.splitlines()) == 450


def test_a_reader_gives_each_event_once_however_many_come_and_in_whatever_order_their_ids_are(
    state: Recorded,
) -> None:
    with state.store() as store:

        def add(number: int) -> None:
            store.write(
                lambda tx: [
                    events.add(tx, "Site", "shop", reason="Said", message=str(n)) for n in range(number)
                ]
            )

        reader = Reader()
        assert store.read(reader.first) == []
        assert store.read(reader.fresh) == []
        seen = []
        for number in (1, 3, 150, 401, 1, 900, 2):
            add(number)
            found = store.read(reader.fresh)
            assert [event.message for event in found] == [str(n) for n in range(number)]
            seen += [event.id for event in found]
            assert store.read(reader.fresh) == []
        assert len(seen) == len(set(seen)) == 1458


def test_following_prints_what_happens_until_it_is_interrupted(state: Recorded) -> None:
    state.event("shop", "before")
    running = state.start("events", "-f", "--output", "json")
    try:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["message"] == "before"
        for number in range(3):
            state.event("shop", str(number))
            assert json.loads(running.stdout.readline())["message"] == str(number)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    finally:
        running.kill()
        running.communicate()
    assert (running.returncode, out, err) == (130, "", "")


def test_a_message_is_readable_on_one_line() -> None:
    assert readable(" a\n\tb\x1b[2J\u2028c\x00 ") == "a b [2J c"
