from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.selinux import audit, mcs
from reconciler.selinux.audit import Context, Denial
from tests.selinux import samples


def one(text: str) -> Denial:
    (found,) = audit.parse(text.splitlines())
    return found


def test_a_search_of_another_sites_home_is_read_whole() -> None:
    found = one(samples.OTHER_HOME)
    assert (found.kind, found.verdict, found.permissions, found.tclass) == (
        "AVC",
        "denied",
        ("search",),
        "dir",
    )
    assert found.at == datetime(2026, 1, 31, 12, 0, 0, 123000, UTC)
    assert found.serial == 412
    assert found.source == Context("system_u", "system_r", "laravel_php_fpm_t", "s0:c100,c101")
    assert found.target == Context("system_u", "object_r", "site_content_t", "s0:c102,c103")
    assert (found.comm, found.name, found.dev, found.ino, found.pid) == (
        "php-fpm8.2",
        "web2",
        "vda",
        131_085,
        1042,
    )
    assert found.exe == "/usr/sbin/php-fpm8.2"
    assert not found.permissive


def test_records_of_one_event_complete_each_other_in_any_order() -> None:
    lines = samples.OTHER_HOME.splitlines()
    assert one("\n".join(reversed(lines))) == one(samples.OTHER_HOME)
    alone = one(lines[0])
    assert alone.exe is None
    assert alone.comm == "php-fpm8.2"


def test_two_refusals_of_one_system_call_are_two() -> None:
    found = audit.parse(samples.TWO_IN_ONE.splitlines())
    assert [(d.tclass, d.permissions, d.exe) for d in found] == [
        ("dir", ("write",), "/usr/sbin/php-fpm8.2"),
        ("file", ("create",), "/usr/sbin/php-fpm8.2"),
    ]


def test_names_in_hex_are_decoded_and_numbers_are_left_alone() -> None:
    found = one(samples.ODD_NAME)
    assert found.name == "a b é.txt"
    assert found.comm == "php-fpm8.2"
    assert found.path == "/home/web2/storage/a b é.txt"
    assert found.pid == 1042


def test_a_relative_path_is_completed_by_the_working_folder() -> None:
    assert one(samples.RELATIVE).path == "/home/web1/public_html/data/x.txt"


@pytest.mark.parametrize(
    ("text", "tclass", "permission", "exe", "path"),
    [
        (
            samples.RELOAD,
            "service",
            "reload",
            "/usr/lib/systemd/systemd",
            "/lib/systemd/system/nginx.service",
        ),
        (samples.BUS, "dbus", "send_msg", "/usr/bin/dbus-daemon", None),
    ],
)
def test_refusals_of_systemd_and_the_bus_are_read(
    text: str, tclass: str, permission: str, exe: str, path: str | None
) -> None:
    found = one(text)
    assert (found.kind, found.tclass, found.permissions) == ("USER_AVC", tclass, (permission,))
    assert (found.exe, found.path) == (exe, path)
    # 1 and 901 are systemd and the bus themselves
    assert found.pid not in {1, 901}


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        (samples.NO_NEW_PRIVILEGES, "system_u:system_r:laravel_php_fpm_t:s0:c100,c101"),
        (samples.INVALID, "unconfined_u:unconfined_r:rpm_t:s0-s0:c0.c1023"),
        (samples.INVALID_QUOTED, "unconfined_u:unconfined_r:rpm_t:s0-s0:c0.c1023"),
        (samples.INVALID_OLD, "system_u:system_r:logwatch_mail_t:s0-s0:c0.c1023"),
    ],
)
def test_faults_of_the_policy_are_read_in_every_form(text: str, reached: str) -> None:
    found = one(text)
    assert (found.kind, found.verdict) == ("SELINUX_ERR", "error")
    assert str(found.target) == reached


def test_a_permissive_domain_is_told_of() -> None:
    assert one(samples.PERMISSIVE).permissive


@pytest.mark.parametrize(
    "text", [samples.NOTICE, samples.LOGIN, "", "garbage", "type=AVC msg=audit(1.2:3): avc:  "]
)
def test_what_refuses_nothing_is_passed_over(text: str) -> None:
    assert audit.parse(text.splitlines()) == ()


def test_the_translation_for_people_is_not_read_as_fields() -> None:
    found = one(samples.RELOAD)
    assert "\x1d" not in found.text
    assert 'UID="root"' not in found.text


def test_equal_denials_become_one_with_their_number() -> None:
    first = one(samples.OTHER_HOME)
    later = replace(first, at=first.at.replace(minute=5), serial=99, pid=7)
    other = replace(first, comm="php")
    folded = audit.fold([first, later, other, first])
    assert [(f.denial, f.count) for f in folded] == [(first, 3), (other, 1)]
    assert folded[0].last_at == later.at


def test_counts_go_on_from_what_was_known() -> None:
    first, other = one(samples.OTHER_HOME), one(samples.RELOAD)
    known = audit.fold([first, first])
    assert [f.count for f in audit.fold([other, first], known)] == [3, 1]
    assert audit.fold([], known) == known


def test_a_site_is_found_by_its_level() -> None:
    found = one(samples.OTHER_HOME)
    sites = {
        n: name
        for level, name in (("s0:c100,c101", "shop"),)
        if (n := mcs.number_of_level(level)) is not None
    }
    assert audit.site_of(found.source, sites) == "shop"
    assert audit.site_of(found.target, sites) is None
    assert audit.site_of(one(samples.RELOAD).source, sites) is None
    assert audit.site_of(None, sites) is None


WORDS = st.sampled_from(
    [
        "type=AVC msg=audit(1.2:3):",
        "type=USER_AVC msg=audit(99999999999.999:3): pid=1 msg='",
        "type=SELINUX_ERR msg=audit(1.2:3):",
        "type=SYSCALL msg=audit(1.2:3):",
        "type=PATH msg=audit(1.2:3): item=0",
        "avc:  denied  { read } for",
        "avc:  denied  { ",
        " }",
        "scontext=a:b:c:s0:c1,c2",
        "tcontext=",
        "tclass=file",
        'name="',
        "name=6162",
        "name=FFFE",
        "inode=٣",
        "pid=٣",
        "ino=99999999999999999999999",
        "invalid context",
        "'",
        "\x1d",
        "\x00",
        "=",
        "{",
    ]
)


@given(st.lists(st.lists(WORDS | st.text(max_size=12), max_size=10).map(" ".join), max_size=6))
def test_no_line_makes_it_stumble(lines: list[str]) -> None:
    for denial in audit.parse(lines):
        assert denial.text in " ".join(lines)
        audit.fold([denial, denial])


@given(st.integers(0, len(samples.RELOAD)), st.text(max_size=5))
def test_a_record_that_was_cut_or_damaged_gives_less_not_an_error(place: int, damage: str) -> None:
    audit.parse([samples.RELOAD[:place] + damage + samples.RELOAD[place + len(damage) :]])
    audit.parse([samples.RELOAD[:place]])


def test_a_line_without_end_is_cut() -> None:
    head, rest = samples.OTHER_HOME.splitlines()[0].split(" for ", 1)
    found = audit.parse([f"{head} for x={'y' * 1_000_000} {rest}"])
    assert len(found[0].text) < 20_000
