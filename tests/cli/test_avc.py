"""`reconciler avc`: what is shown of denials, in which order, and why they happened."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.nodes.answers import Denials, Gap
from reconciler.record import denials
from reconciler.selinux import mcs
from reconciler.store import Store, Tx
from reconciler.store.queries import audit_cursors, events, servers, sites
from reconciler.testing.auditing import AuditTrail
from tests.cli.recorded import Recorded, fill

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP, CRM = mcs.level(mcs.FIRST), mcs.level(mcs.FIRST + 1)
PHP = f"system_u:system_r:laravel_php_fpm_t:{SHOP}"


@pytest.fixture
def state(tmp_path: Path) -> Recorded:
    """Two sites on web1 that have levels, and denials of an hour on it."""
    made = Recorded.make(tmp_path / "state")
    with made.store(NOON - timedelta(hours=3)) as store:
        store.write(site)
    log = AuditTrail("machine-1")
    for n in range(7):
        log.deny(
            NOON - timedelta(minutes=50 - n), source=PHP, target=f"system_u:object_r:laravel_env_t:{CRM}"
        )
    log.deny(
        NOON - timedelta(minutes=40),
        source=PHP,
        target="u:object_r:ldap_port_t:s0",
        asked="tcp_socket name_connect",
        path="",
    )
    log.deny(
        NOON - timedelta(minutes=30),
        source=PHP,
        target="u:object_r:default_t:s0",
        path="/home/web1/public_html/" + "deep/" * 20 + "index.php",
    )
    administrator = "system_u:system_r:laravel_ssh_key_t:s0"
    log.deny(
        NOON - timedelta(minutes=20),
        source=administrator,
        target="u:object_r:useradd_exec_t:s0",
        asked="file execute",
        path="/usr/sbin/useradd",
        command="python3",
        permissive=True,
    )
    log.deny(
        NOON - timedelta(minutes=10),
        source=administrator,
        target="u:r:wanted_t:s0",
        asked="process signal",
        path="",
        command="\x1b[31mred",
    )
    with made.store(NOON) as store:
        told = record(store, log, NOON)
        gap = Gap(NOON.timestamp() - 7200, NOON.timestamp() - 3600, "rotated")
        lost = Denials(True, NOON.timestamp(), told.cursor, gap=gap)
        store.write(lambda tx: denials.take(tx, "web1", lost, ()))
    return made


def record(store: Store, log: AuditTrail, now: datetime) -> Denials:
    """Record all that is in a log as web1's; the answer that it came in."""
    told = log.tell(None, 100, now.timestamp())
    store.write(lambda tx: denials.take(tx, "web1", told, denials.parsed(told)))
    return told


def site(tx: Tx) -> None:
    fill(tx)
    web1 = servers.get(tx, "web1")
    assert web1 is not None
    sites.upsert(
        tx,
        "shop1",
        sites.SiteFields(web1.id, "shop1.example.test", "public", "web1", "8.2", mcs_id=mcs.FIRST),
    )
    sites.upsert(
        tx,
        "crm",
        sites.SiteFields(web1.id, "crm.example.test", "public", "web2", "8.2", mcs_id=mcs.FIRST + 1),
    )


TABLE = """\
COUNT  LAST                 SERVER  SITE   WHO                        WHAT                                ON
1      2026-03-01 11:50:00  web1           laravel_ssh_key_t [31mred  signal process                      wanted_t
1      2026-03-01 11:40:00  web1           laravel_ssh_key_t python3  execute file (allowed: permissive)  /usr/sbin/useradd useradd_exec_t
1      2026-03-01 11:30:00  web1    shop1  laravel_php_fpm_t php-fpm  read file                           …/deep/deep/deep/deep/deep/deep/deep/deep/deep/deep/index.php default_t
1      2026-03-01 11:20:00  web1    shop1  laravel_php_fpm_t php-fpm  name_connect tcp_socket             ldap_port_t
7      2026-03-01 11:16:00  web1    shop1  laravel_php_fpm_t php-fpm  read file                           /home/web2/.env laravel_env_t
1      2026-03-01 11:00:00  web1                                      records lost                        since 2026-03-01 10:00:00
"""


def test_denials_are_a_table_newest_first(state: Recorded) -> None:
    told = state.run("avc")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines() == TABLE.splitlines()


def test_denials_are_narrowed_by_server_site_and_time(state: Recorded) -> None:
    def counts(*words: str) -> list[int]:
        return [one["count"] for one in json.loads(state.run("avc", "-o", "json", *words).out)]

    assert counts() == [1, 1, 1, 1, 7, 1]
    assert counts("--site", "shop1") == counts("--site", "Site/shop1") == [1, 1, 7]
    assert counts("--server", "web2") == []
    assert counts("--since", "2026-03-01T11:35") == [1, 1]
    assert counts("--since", "2026-03-01T12:35+01:00") == [1, 1]
    assert (
        counts("--server", "web1", "--since", "99999h")
        == counts("--since", "2026-01-01")
        == [1, 1, 1, 1, 7, 1]
    )
    assert state.run("avc", "--server", "web2").out == "No denials.\n"
    wrong = state.run("avc", "--server", "wbe1")
    assert wrong.code == 1
    assert "there is no server 'wbe1'" in wrong.err
    assert "did you mean 'web1'?" in wrong.err
    assert "reconciler status" in state.run("avc", "--site", "zzz").err
    wrong = state.run("avc", "--since", "yesterday")
    assert wrong.code == 2
    assert "1h30m" in wrong.err


def test_without_a_time_the_newest_fifty_are_shown(state: Recorded) -> None:
    log = AuditTrail("machine-1")
    for n in range(70):
        log.deny(NOON + timedelta(seconds=n), source=PHP, path=f"/home/web2/{n}")
    with state.store(NOON + timedelta(minutes=5)) as store:
        record(store, log, NOON + timedelta(minutes=5))
    found = json.loads(state.run("avc", "-o", "json").out)
    assert [one["path"] for one in found] == [f"/home/web2/{n}" for n in range(69, 19, -1)]
    assert len(json.loads(state.run("avc", "--output", "json", "--since", "2026-03-01T12:00").out)) == 70


def test_json_has_every_part_of_a_denial(state: Recorded) -> None:
    found = json.loads(state.run("avc", "-o", "json", "--explain").out)
    one = found[4]
    assert one.pop("id")
    assert "avc:  denied" in one.pop("message")
    assert one == {
        "server": "web1",
        "site": "shop1",
        "count": 7,
        "first": "2026-03-01T11:10:00.000Z",
        "last": "2026-03-01T11:16:00.000Z",
        "kind": "AVC",
        "verdict": "denied",
        "permissive": False,
        "command": "php-fpm",
        "exe": None,
        "source": PHP,
        "permissions": ["read"],
        "class": "file",
        "path": "/home/web2/.env",
        "target": f"system_u:object_r:laravel_env_t:{CRM}",
        "explanation": {
            "cause": "isolation",
            "message": "PHP of site shop1 may not reach what is of site crm",
            "suggestion": None,
            "advice": None,
        },
    }
    lost = found[5]
    assert (lost["kind"], lost["verdict"], lost["source"], "explanation" in lost) == (
        "gap",
        None,
        None,
        False,
    )
    assert "explanation" not in json.loads(state.run("avc", "-o", "json").out)[0]


def test_each_is_explained_with_what_would_change_it_and_where(state: Recorded) -> None:
    told = state.run("avc", "--explain")
    assert told.code == 0
    blocks = [block.splitlines() for block in told.out.strip().split("\n\n")]
    assert blocks[4] == [
        "7x web1, site shop1, 2026-03-01 11:10:00 to 2026-03-01 11:16:00:",
        f"  laravel_php_fpm_t php-fpm: read file, /home/web2/.env (system_u:object_r:laravel_env_t:{CRM})",
        "  isolation: PHP of site shop1 may not reach what is of site crm",
    ]
    assert (
        blocks[0][-1]
        == "  spec.selinux.rules of Server/web1: allow laravel_ssh_key_t wanted_t:process { signal };"
    )
    assert blocks[1][-1] == "  spec.selinux.booleans of Server/web1: panel_can_manage_users: true"
    assert blocks[2][-2].startswith("  wrong label: /home/web1/public_html/deep/")
    assert "should be site_content_t:" in blocks[2][-2]
    assert blocks[2][-1].startswith("  on web1: chcon ")
    assert blocks[3][-1].startswith("  isolation: PHP may connect to ")
    assert blocks[5][1].startswith(
        "  what SELinux refused from 2026-03-01T10:00:00Z until 2026-03-01T11:00:00Z is not known"
    )
    assert "\x1b" not in told.out


def test_servers_without_an_audit_log_are_named(state: Recorded) -> None:
    with state.store() as store:

        def unit(tx: Tx) -> None:
            web3 = servers.get(tx, "web3")
            assert web3 is not None
            audit_cursors.put(tx, web3.id, None, log=False)

        store.write(unit)
    assert state.run("avc").err == "Without an audit log, so that nothing is known of them: web3\n"
    assert state.run("avc", "--server", "web3").err.endswith("web3\n")
    assert state.run("avc", "--server", "web1").err == ""
    assert json.loads(state.run("avc", "-o", "json", "--server", "web3").out) == []


def test_a_server_that_is_gone_leaves_its_denials_without_a_name(state: Recorded) -> None:
    with state.store() as store:

        def unit(tx: Tx) -> None:
            web1 = servers.get(tx, "web1")
            assert web1 is not None
            servers.delete(tx, web1.id)

        store.write(unit)
    assert [one["server"] for one in json.loads(state.run("avc", "-o", "json").out)] == [None] * 6
    assert "1x a server that is gone, 2026-03-01 11:50:00:" in state.run("avc", "--explain").out


def test_events_and_top_tell_of_denials_too(state: Recorded) -> None:
    with state.store() as store:
        told = store.read(lambda tx: events.listed(tx, limit=10))
    assert {(one.kind, one.name, one.reason) for one in told} >= {
        ("Site", "shop1", "SELinuxDenied"),
        ("Server", "web1", "SELinuxDenied"),
        ("Server", "web1", "DenialsLost"),
    }
    log = AuditTrail("machine-1")
    now = datetime.now(UTC)
    for _ in range(12):
        log.deny(now - timedelta(minutes=3), source=PHP)
    with state.store(now) as store:
        record(store, log, now)
    lines = [" ".join(line.split()) for line in state.run("top", "--once").out.splitlines()]
    assert "SERVER STATE READY RESOURCES DENIALS NOW" in lines
    assert any(line.startswith("web1 active True 1/3 12 applying Site/shop1") for line in lines)
    assert "web4 active True 2/2" in lines
