"""The operation `avc`: each denial is told once, whatever happens to the files of the audit log meanwhile."""

from __future__ import annotations

import json
import random
import shutil
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import auditlog, denials
from reconciler.selinux import audit
from tests.selinux import samples

from .auditing import FILE, PHP, AuditLog, avc, login
from .talking import Here, Refused

Answer = dict[str, Any]
LONG_AGO = 1769860800.0


@pytest.fixture(params=["3.6", "now"])
def either(request: pytest.FixtureRequest) -> Here:
    """A folder node served by the oldest Python, and by that of the tests."""
    found = request.getfixturevalue("oldest" if request.param == "3.6" else "here")
    assert isinstance(found, Here)
    return found


@pytest.fixture
def log(inside: Here) -> AuditLog:
    """The audit log of a folder node that is served in this process."""
    inside.write("/etc/machine-id", "0123456789abcdef\n")
    return AuditLog(inside.path("/var/log/audit"))


class Follower:
    """Somebody who asks and keeps the cursor."""

    def __init__(self) -> None:
        self.cursor: Any = None
        self.told: Counter[str] = Counter()
        self.gaps: list[Answer] = []
        self.asked = 0

    def ask(self, most: int = 100) -> Answer:
        given = None if self.cursor is None else auditlog.Cursor.of(self.cursor)
        answer = denials.collect(given, most)
        self.asked += 1
        self.cursor = answer["cursor"]
        self.gaps += [answer["gap"]] if answer["gap"] else []
        for event in answer["events"]:
            for denial in audit.parse(event["lines"]):
                self.told[denial.object] += event["count"]
        return answer

    def drain(self, most: int = 100) -> int:
        """Ask until there is no more; how many denials are known by now."""
        while self.ask(most)["more"]:
            assert self.asked < 10_000
        return sum(self.told.values())


def test_equal_denials_are_told_once_with_their_number(either: Here) -> None:
    log = AuditLog(either.path("/var/log/audit"))
    for n in range(7):
        log.write(*avc(LONG_AGO + n, 100 + n, pid=1000 + n, ino=500 + n))
    log.write(*login(LONG_AGO + 8, 200), *avc(LONG_AGO + 9, 201, name="web3"))
    with either.talk() as talk:
        answer = talk.ask("avc", cursor=None, most=10)
        first, other = answer["events"]
        assert (first["count"], first["first"], first["last"]) == (7, LONG_AGO, LONG_AGO + 6)
        assert (other["count"], other["first"]) == (1, LONG_AGO + 9)
        assert [line.split()[0] for line in first["lines"]] == [
            "type=AVC",
            "type=SYSCALL",
            "type=CWD",
            "type=PATH",
            "type=PROCTITLE",
        ]
        assert "\x1d" not in "".join(first["lines"])
        (denial,) = audit.parse(first["lines"])
        assert (denial.comm, denial.exe, denial.name) == ("php-fpm8.2", "/usr/sbin/php-fpm8.2", "web2")
        assert (answer["log"], answer["more"], answer["gap"]) == (True, False, None)
        assert abs(answer["now"] - time.time()) < 60
        again = talk.ask("avc", cursor=answer["cursor"], most=10)
        assert (again["events"], again["cursor"]) == ([], answer["cursor"])


def test_a_node_without_an_audit_log_says_so(either: Here) -> None:
    with either.talk() as talk:
        answer = talk.ask("avc", cursor=None, most=10)
        assert (answer["log"], answer["cursor"], answer["events"], answer["more"]) == (False, None, [], False)
        either.path("/var/log/audit").mkdir(parents=True)
        assert talk.ask("avc", cursor=None, most=10)["log"] is False


def test_twenty_thousand_denials_over_forced_rotations_are_counted_exactly(log: AuditLog) -> None:
    log.size = 1024 * 1024
    chance, wanted, follower, serial = random.Random(4), Counter[str](), Follower(), 0
    for n in range(20_000):
        serial += 1
        name = f"site{chance.choice((1, 1, 1, 1, 2, 3, chance.randrange(300)))}"
        log.write(*avc(LONG_AGO + n / 1400, serial, name=name, pid=chance.randrange(30_000), ino=n))
        wanted[name] += 1
        if n % 3 == 0:
            log.write(*login(LONG_AGO + n / 1400, serial := serial + 1))
        if chance.random() < 0.01:
            follower.ask(most=chance.choice((1, 5, 500)))
    follower.drain()
    assert log.rotations > 15
    assert (follower.told, follower.gaps) == (wanted, [])


def test_twenty_thousand_equal_denials_need_few_answers_and_little_memory(log: AuditLog) -> None:
    log.folder.mkdir(parents=True)
    log.path.write_text("".join("\n".join(avc(LONG_AGO + n / 1400, n)) + "\n" for n in range(20_000)))
    follower = Follower()
    tracemalloc.start()
    assert follower.drain() == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert follower.asked <= log.path.stat().st_size // denials.MOST_READ + 1
    assert peak < 8 * 1024 * 1024


def test_a_record_that_is_not_written_to_its_end_is_told_when_it_is(log: AuditLog) -> None:
    one, two = avc(LONG_AGO, 1), avc(LONG_AGO + 1, 2)
    log.write(*one)
    log.write(two[0][:80], end=b"")
    follower = Follower()
    assert follower.drain() == 1
    log.write(two[0][80:], *two[1:])
    assert follower.drain() == 2


def test_an_event_of_which_more_may_come_waits(log: AuditLog) -> None:
    now = time.time()
    records = avc(now, 1)
    log.write(*records[:2])
    follower = Follower()
    assert follower.ask()["events"] == []
    log.write(*records[2:])
    (event,) = follower.ask()["events"]
    assert (len(event["lines"]), follower.drain()) == (5, 1)


def test_an_event_of_which_nothing_more_comes_is_told_after_two_seconds(log: AuditLog) -> None:
    log.write(avc(time.time() - 3, 1)[0])
    assert Follower().drain() == 1


def test_a_clock_that_was_set_back_keeps_nothing_waiting(log: AuditLog) -> None:
    log.write(avc(time.time() + 86400, 1)[0])
    assert Follower().drain() == 1


def test_records_of_several_events_may_be_mixed(log: AuditLog) -> None:
    follower, now = Follower(), time.time()
    one, two, three = avc(now, 1, name="a"), avc(now, 2, name="b"), avc(now, 3, name="c")
    twice = one[0].replace("{ search }", "{ getattr }")
    log.write(two[0], one[0], three[0], *three[1:], two[1], twice, *two[2:])
    follower.ask()
    assert follower.told == {"b": 1}, "the second waits for the rest of the first"
    log.write(*one[1:])
    assert follower.drain() == 4
    assert follower.told == {"a": 2, "b": 1, "c": 1}


def test_an_event_that_was_told_is_not_told_again_for_its_later_records(log: AuditLog) -> None:
    """A first event waits before the last record of another one that is whole already: the place is before both."""
    follower, now = Follower(), time.time()
    whole, waits = avc(now, 1, name="a"), avc(now, 2, name="b")
    more = whole[0].replace("{ search }", "{ getattr }")
    log.write(whole[0], waits[0], more, *whole[1:])
    assert follower.drain() == 2
    log.write(*waits[1:])
    assert follower.drain() == 3
    assert follower.told == {"a": 2, "b": 1}


def test_an_event_may_lie_in_two_files(log: AuditLog) -> None:
    follower, records = Follower(), avc(LONG_AGO, 1)
    log.write(*records[:2])
    log.rotate()
    log.write(*records[2:])
    (event,) = follower.ask()["events"]
    assert (event["count"], len(event["lines"])) == (1, 5)
    assert follower.drain() == 1


def test_nothing_is_lost_while_the_newest_file_is_empty(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    log.rotate()
    follower = Follower()
    assert follower.drain() == 1
    log.rotate()
    log.write(*avc(LONG_AGO + 1, 2))
    log.rotate()
    assert follower.drain() == 2
    assert follower.gaps == []


def test_a_log_that_is_empty_yet_has_a_beginning(log: AuditLog) -> None:
    log.folder.mkdir(parents=True)
    log.path.touch()
    follower = Follower()
    assert follower.drain() == 0
    log.write(*avc(LONG_AGO, 1))
    log.rotate()
    assert follower.drain() == 1
    assert follower.gaps == []


def test_what_was_rotated_away_unread_is_a_gap_with_its_times(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    for n in range(1, 7):
        log.rotate()
        log.write(*avc(LONG_AGO + n, 1 + n))
    assert follower.drain() == 1 + 5
    (gap,) = follower.gaps
    assert gap == {"from": LONG_AGO, "to": LONG_AGO + 2, "reason": "rotated"}


def test_behind_a_gap_nothing_is_passed_over_when_a_file_begins_in_the_same_moment(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    for n in range(2, 8):  # a burst: files begin in the millisecond in which the ones before end
        log.rotate()
        log.write(*avc(LONG_AGO, n))
    assert follower.drain() == 1 + 5
    assert len(follower.gaps) == 1


def test_an_empty_file_is_no_place_to_remember(log: AuditLog) -> None:
    """Its inode may be another file's by the time that something is asked again."""
    log.write(*avc(LONG_AGO, 1))
    log.rotate()
    follower = Follower()
    follower.drain()
    before = (log.folder / "audit.log.1").stat()
    assert (follower.cursor["inode"], follower.cursor["offset"]) == (before.st_ino, before.st_size)
    log.write(*avc(LONG_AGO + 1, 2))
    follower.drain()
    log.path.write_bytes(b"")
    assert follower.ask()["gap"]["reason"] == "truncated"
    assert (follower.cursor["inode"], follower.cursor["offset"]) == (before.st_ino, before.st_size)
    log.write(*avc(LONG_AGO + 2, 3))
    assert follower.drain() == 3
    assert len(follower.gaps) == 1


@pytest.mark.parametrize("later", ["short", "long " * 2000], ids=["shorter", "longer"])
def test_a_log_that_somebody_rewrote_is_told_as_a_gap(log: AuditLog, later: str) -> None:
    first = avc(LONG_AGO, 1)
    log.write(*first, *avc(LONG_AGO + 1, 2))
    follower = Follower()
    follower.drain()
    log.path.write_bytes(b"")
    log.write(*first, later)
    follower.drain()
    assert [gap["reason"] for gap in follower.gaps] == ["truncated"]


def test_an_inode_that_was_given_to_a_new_file_is_not_taken_for_the_old_one(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    for n in range(1, 4):
        log.rotate()
        log.write(*avc(LONG_AGO + n, 1 + n))
    # the file of the cursor is gone, and the newest one has its inode, as ext4 gives it out
    (log.folder / "audit.log.3").unlink()
    follower.cursor["inode"] = log.path.stat().st_ino
    assert follower.drain() == 1 + 3
    assert [gap["reason"] for gap in follower.gaps] == ["rotated"]


def test_a_log_that_was_emptied_is_read_from_its_beginning_and_older_files_are_not_read_again(
    log: AuditLog,
) -> None:
    log.write(*avc(LONG_AGO, 1))
    log.rotate()
    log.write(*avc(LONG_AGO + 1, 2), *avc(LONG_AGO + 2, 3))
    follower = Follower()
    assert follower.drain() == 3
    log.path.write_bytes(b"")
    log.write(*avc(LONG_AGO + 9, 9))
    assert follower.drain() == 4
    assert follower.gaps == [{"from": LONG_AGO + 2, "to": LONG_AGO + 9, "reason": "truncated"}]
    log.path.write_bytes(b"")
    for n in range(5):  # and grown beyond the place that is known
        log.write(*avc(LONG_AGO + 10 + n, 10 + n))
    assert follower.drain() == 9
    assert len(follower.gaps) == 2


def test_a_log_that_is_copied_and_emptied_is_followed_into_the_copy(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    log.write(*avc(LONG_AGO + 1, 2))
    shutil.copy(log.path, log.folder / "audit.log.1")
    log.path.write_bytes(b"")
    log.write(*avc(LONG_AGO + 2, 3))
    assert follower.drain() == 3
    assert follower.gaps == []


def test_another_machine_is_read_from_its_beginning_without_a_gap(log: AuditLog, inside: Here) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    shutil.rmtree(log.folder)
    inside.write("/etc/machine-id", "fedcba9876543210\n")
    log.write(*avc(LONG_AGO - 1000, 1))
    assert follower.drain() == 2
    assert follower.gaps == []


def test_a_log_that_is_away_for_a_while_keeps_its_place(log: AuditLog) -> None:
    log.write(*avc(LONG_AGO, 1))
    follower = Follower()
    follower.drain()
    log.folder.rename(log.folder.with_name("aside"))
    assert follower.ask()["log"] is False
    log.folder.with_name("aside").rename(log.folder)
    log.write(*avc(LONG_AGO + 1, 2))
    assert follower.drain() == 2
    assert follower.gaps == []


def test_distinct_denials_come_in_bounded_answers_each_once(log: AuditLog) -> None:
    for n in range(250):
        log.write(*avc(LONG_AGO + n, n, name=f"n{n}"))
    follower = Follower()
    answer = follower.ask(most=100)
    assert (len(answer["events"]), answer["more"]) == (100, True)
    assert follower.drain(most=100) == 250
    assert follower.asked == 3
    assert set(follower.told.values()) == {1}


def test_an_answer_fits_on_a_line_whatever_programs_call_themselves(either: Here) -> None:
    log = AuditLog(either.path("/var/log/audit"))
    filler = b"\x01\xff\xc3" * 2500
    for n in range(600):
        record = avc(LONG_AGO + n, n, name=f"n{n}")[0].encode()
        log.write(record + b" x=" + filler)
    seen, cursor = 0, None
    with either.talk() as talk:
        while True:
            talk.request("avc", cursor=cursor, most=1000)
            assert talk.process.stdout is not None
            line = talk.process.stdout.readline()
            assert len(line) < 8 * 1024 * 1024
            answer = json.loads(line)["result"]
            seen += sum(event["count"] for event in answer["events"])
            cursor = answer["cursor"]
            if not answer["more"]:
                break
    assert seen == 600


def test_lines_that_are_no_records_harm_nothing(log: AuditLog) -> None:
    log.write(
        b"\0" * 100,
        b"\xff\xfe rubbish",
        b"type=AVC msg=audit(99999999999999.1:1): avc:  denied  { read }",
        b"type=AVC msg=audit(1769860800.123:99999999999999999999): avc:  denied",
        b"",
        b"x" * (3 * 1024 * 1024),
        *avc(LONG_AGO, 1),
        b"type=AVC " * 5000,
        *samples.NOTICE.splitlines(),
        *avc(LONG_AGO + 1, 2, comm="a" * 100_000),
        *avc(LONG_AGO + 2, 3, name="last"),
    )
    follower = Follower()
    follower.drain()
    assert follower.told["last"] == 1
    assert follower.told["web2"] >= 1


def test_of_an_event_with_very_many_records_the_first_are_kept(log: AuditLog) -> None:
    one = avc(LONG_AGO, 1)
    log.write(*one[:1] * 500, *one[1:])
    (event,) = Follower().ask()["events"]
    assert len(event["lines"]) == 32


@pytest.mark.parametrize(
    "sample",
    ["OTHER_HOME", "TWO_IN_ONE", "ODD_NAME", "RELATIVE", "RELOAD", "BUS", "NO_NEW_PRIVILEGES", "INVALID"],
)
def test_every_kind_of_denial_is_told_as_it_is_written(log: AuditLog, sample: str) -> None:
    text = getattr(samples, sample)
    log.write(*text.splitlines())
    (event,) = Follower().ask()["events"]
    assert audit.parse(event["lines"]) == audit.parse(text.splitlines())


def test_denials_that_differ_in_what_people_look_at_are_not_equal(log: AuditLog) -> None:
    base = avc(LONG_AGO, 1)[0]
    others = [
        base.replace("search", "read"),
        base.replace("tclass=dir", "tclass=file"),
        base.replace(PHP, PHP.replace("c0,", "c7,")),
        base.replace(FILE, FILE.replace("site_content_t", "laravel_env_t")),
        base.replace("web2", "web9"),
        base.replace('comm="php-fpm8.2"', 'comm="sh"'),
        base.replace("permissive=0", "permissive=1"),
        base.replace("denied", "granted"),
    ]
    for n, record in enumerate([base, *others, base]):
        log.write(record.replace(":1)", f":{n + 1})"))
    answer = Follower().ask()
    assert sorted(event["count"] for event in answer["events"]) == [1] * len(others) + [2]


def test_a_link_in_place_of_the_log_is_not_followed(log: AuditLog, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.write_text("\n".join(avc(LONG_AGO, 1)) + "\n")
    log.folder.mkdir(parents=True)
    log.path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        denials.collect(None, 10)


@pytest.mark.parametrize(
    "cursor",
    [
        1,
        {},
        {"inode": 1},
        {"machine": "", "inode": 1, "offset": -1, "first": "", "at": 0.0, "told": []},
        {"machine": "", "inode": True, "offset": 1, "first": "", "at": 0.0, "told": []},
        {"machine": "", "inode": 1, "offset": 1, "first": "", "at": 0.0, "told": [1]},
        {"machine": "", "inode": 1, "offset": 1, "first": "", "at": 0.0, "told": ["x"] * 65},
        {"machine": "", "inode": 1, "offset": 1, "first": "", "at": 0.0, "told": [], "more": 1},
    ],
)
def test_a_cursor_that_is_none_is_refused(here: Here, cursor: Any) -> None:
    with here.talk() as talk:
        with pytest.raises(Refused, match="cursor") as refused:
            talk.ask("avc", cursor=cursor, most=10)
        assert refused.value.code == "bad_request"
        with pytest.raises(Refused, match="most is not a number from 1 to 1000"):
            talk.ask("avc", cursor=None, most=0)
        assert talk.ask("avc", cursor=None, most=1)["log"] is False
