"""What SELinux refuses on nodes reaches the database once, with its site, and soon."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.app.config_model import LimitSettings
from reconciler.errors import AgentFault, StoreBusy
from reconciler.kit.clock import stamp
from reconciler.kit.secret import Secret
from reconciler.nodes.answers import Denials, Denied, Gap
from reconciler.record import denials
from reconciler.store import Tx
from reconciler.store.queries import audit_cursors, rollouts, selinux_audit_logs, servers, sites
from reconciler.testing.node import FakeNode

from .denying import count_asks, counted, deny, levels, played, rows
from .world import LoopWorld, config

HOUR = timedelta(hours=1)


def test_a_denial_is_a_row_of_its_site_and_an_event(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            await world.converged()
            of = await levels(world)
            began = world.clock()
            deny(world, of, times=7)
            await counted(world, 7)
            (row,) = await rows(world)
            site = await world.store.aread(lambda tx: sites.get(tx, "site1-1"))
            assert site is not None
            assert (row.site_id, row.log_level, row.count) == (site.id, "warning", 7)
            assert row.context == {
                "kind": "AVC",
                "verdict": "denied",
                "permissive": False,
                "command": "php-fpm",
                "exe": None,
                "class": "file",
                "permissions": ["read"],
                "path": "/home/web2/.env",
                "inode": 1,
                "source": f"system_u:system_r:laravel_php_fpm_t:{of['site1-1']}",
                "target": "system_u:object_r:site_content_t:s0:c1,c100",
                "count": 7,
                "first": stamp(began),
                "last": stamp(began),
            }
            assert "avc:  denied  { read }" in row.message
            told = [line for line in await world.events("Site", "site1-1") if "SELinux" in line]
            assert told == [
                "SELinuxDenied SELinux refused laravel_php_fpm_t (php-fpm) { read } of file /home/web2/.env"
                " (site_content_t)"
            ]
            value = daemon.meter.registry.get_sample_value
            assert value("reconciler_avc_denials_total", {"class": "file"}) == 7

    played(tmp_path, scene)


def test_the_site_is_found_by_either_side_and_what_is_of_none_is_of_the_server(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            node = world.node("web2")
            ssh = "system_u:system_r:laravel_ssh_key_t:s0"
            node.audit.deny(
                world.clock(), source=ssh, target=f"system_u:object_r:site_content_t:{of['site2-2']}"
            )
            node.audit.deny(world.clock(), source=ssh, target="system_u:object_r:shadow_t:s0")
            # the same level on another server is another site's
            node.audit.deny(world.clock(), source=ssh, target="u:r:site_content_t:s0:c900,c901")
            await counted(world, 3, "web2")
            names = {row.id: row.name for row in await world.store.aread(sites.all)}
            assert sorted(names.get(row.site_id or "", "") for row in await rows(world, "web2")) == [
                "",
                "",
                "site2-2",
            ]
            (told,) = [line for line in await world.events("Server", "web2") if "SELinux" in line]
            assert "shadow_t" in told
            assert "and 1 other denial" in told

    played(tmp_path, scene)


def test_equal_denials_of_an_hour_are_one_row_and_later_ones_another(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            for n in range(1, 10):
                deny(world, of, times=2)
                deny(world, of, path=f"/home/web2/{n}")
                await counted(world, 3 * n)
                await asyncio.sleep(550)
            found = await rows(world)
            same = [row for row in found if row.context and row.context["path"] == "/home/web2/.env"]
            assert [row.count for row in same] == [4, 14]
            assert all(row.last_at - row.first_at <= HOUR for row in found)
            assert all(row.context and row.context["count"] == row.count for row in found)
            assert len(found) == 2 + 9

    played(tmp_path, scene)


def test_a_daemon_that_comes_later_goes_on_where_the_one_before_was(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            deny(world, of, times=3)
            await counted(world, 3)
        deny(world, of, times=4)
        world.node("web1").audit.rotate()
        deny(world, of, times=1)
        async with world.daemon(owner="here:2:y"):
            await counted(world, 8)
            await asyncio.sleep(300)
            await counted(world, 8)

    played(tmp_path, scene)


def test_an_answer_that_could_not_be_recorded_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = denials.take
    refused: list[int] = []

    def take(tx: Tx, *words: Any, **how: Any) -> denials.Taken:
        taken = plain(tx, *words, **how)
        if taken.number and len(refused) < 3:
            refused.append(taken.number)
            raise StoreBusy("the disk is full")
        return taken

    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            await world.converged()
            of = await levels(world)
            monkeypatch.setattr(denials, "take", take)
            deny(world, of, times=5)
            await counted(world, 5, seconds=300)
            assert refused == [5, 5, 5]
            value = daemon.meter.registry.get_sample_value
            assert value("reconciler_avc_denials_total", {"class": "file"}) == 5

    played(tmp_path, scene)


def test_denials_are_collected_while_an_apply_runs(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            node = world.node("web1")
            node.step_seconds = 60.0
            world.change("Site", "site1-1", domain="other.test")
            world.push()
            await world.until_says("Site", "site1-1", "Reconciling", "True Progressing")
            deny(world, of)
            await counted(world, 1)
            assert node.running
            await world.converged()
            assert (await world.spec("Site", "site1-1"))["domain"] == "other.test"

    played(tmp_path, scene)


def test_a_gap_is_a_row_and_an_event_of_the_server(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            deny(world, of)
            await counted(world, 1)
        seen = world.clock()
        for _ in range(7):
            await asyncio.sleep(600)
            world.node("web1").audit.rotate()
            deny(world, of)
        async with world.daemon(owner="here:2:y"):
            await counted(world, 1 + 5 + 1)  # five files are left, and the gap
            gap = next(row for row in await rows(world) if row.identity == selinux_audit_logs.GAP)
            assert gap.context is not None
            assert (gap.log_level, gap.site_id, gap.context["reason"]) == ("error", None, "rotated")
            assert gap.context["to"] > gap.context["from"]
            assert gap.first_at <= seen < gap.last_at
            (told,) = [line for line in await world.events("Server", "web1") if "DenialsLost" in line]
            assert told.endswith("is not known: the audit log was rotated away before it was read")

    played(tmp_path, scene)


def test_a_node_is_asked_at_least_every_minute_and_without_a_log_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_asks(monkeypatch)

    async def scene(world: LoopWorld) -> None:
        world.node("web2").audit.files.clear()
        async with world.daemon():
            await world.converged()
            await asyncio.sleep(60)
            asked.clear()
            await asyncio.sleep(1200)
            assert 1200 / 30 <= len(asked) <= 1200 / 20 + 4

    played(tmp_path, scene)


def test_a_node_that_refuses_very_often_is_asked_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_asks(monkeypatch)

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            deny(world, of)
            await counted(world, 1)
            total = 1
            for _ in range(4):
                deny(world, of, times=1400)
                total += 1400
                await counted(world, total, seconds=30)
            asked.clear()
            deny(world, of, times=1400)
            await counted(world, total + 1400, seconds=8)
            assert len(await rows(world)) == 1

    played(tmp_path, scene)


def test_a_server_that_is_removed_is_asked_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count_asks(monkeypatch)

    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            await world.converged()
            of = await levels(world)
            deny(world, of, "site2-1")
            await counted(world, 1, "web2")

            def unit(tx: Tx) -> None:
                row = servers.get(tx, "web2")
                assert row is not None
                servers.delete(tx, row.id)

            await world.store.awrite(unit)
            deny(world, of, "site2-1")
            assert "web2" in daemon.pool.open(), "its connection is still there"
            asked.clear()
            await asyncio.sleep(300)
            assert len(asked) <= 300 / 20 + 2, "only web1"
            left = await world.store.aread(selinux_audit_logs.listed)
            assert [(row.server_id, row.count) for row in left] == [(None, 1)]

    played(tmp_path, scene)


def test_a_node_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            world.node("web2").silent = True
            await asyncio.sleep(25)  # it is being asked by now
            deny(world, of)
            deny(world, of, "site2-1")
            await counted(world, 1, seconds=26)
            assert await rows(world, "web2") == []
            world.node("web2").silent = False
            await counted(world, 1, "web2", seconds=600)

    played(tmp_path, scene)


def test_a_node_that_cannot_answer_is_asked_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[datetime] = []

    async def avc(node: FakeNode, cursor: Any, most: int) -> Any:
        asked.append(node.clock())
        raise AgentFault(node.server, "unknown op 'avc'", code="bad_request")

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            monkeypatch.setattr(FakeNode, "avc", avc)
            await asyncio.sleep(1200)
            assert 8 <= len(asked) <= 18, "two nodes"

    played(tmp_path, scene)


def test_the_time_between_two_asks_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count_asks(monkeypatch)

    async def scene(world: LoopWorld) -> None:
        world.config = config("main", denials="10m")
        async with world.daemon():
            await world.converged()
            await asyncio.sleep(60)
            asked.clear()
            await asyncio.sleep(3000)
            assert 8 <= len(asked) <= 12

    assert LimitSettings.model_validate_json('{"denials": "10m"}').denials == 600.0
    played(tmp_path, scene)


def test_the_times_of_a_node_whose_clock_is_wrong_are_put_right(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            node = world.node("web1")
            node.clock = lambda: world.clock() - timedelta(days=3)
            now = world.clock()
            deny(world, of, at=node.clock())
            await counted(world, 1)
            (row,) = await rows(world)
            assert abs(row.last_at - now) < timedelta(seconds=1)

    played(tmp_path, scene)


@pytest.mark.parametrize(("now", "first", "last"), [(99e9, 0.0, 1.0), (0.0, 99e9, 99e9), (1.0, 0.5, 99e9)])
def test_times_that_cannot_be_are_now(tmp_path: Path, now: float, first: float, last: float) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
        line = "type=AVC msg=audit(1.0:1): avc:  denied  { read } for  scontext=u:r:a:s0 tcontext=u:r:b:s0"
        found = Denials(True, now, {}, (Denied((line,), 3, first, last),), Gap(first, last, "rotated"))
        await world.store.awrite(lambda tx: denials.take(tx, "web1", found, denials.parsed(found)))
        for row in await rows(world):
            assert row.first_at <= row.last_at <= world.clock()

    played(tmp_path, scene)


def test_what_a_node_makes_up_is_stored_within_bounds_or_not_at_all(tmp_path: Path) -> None:
    lines = [
        'type=AVC msg=audit(1.0:1): avc:  denied  { read } for  comm="a\ud800\x00b" scontext=u:r:\udfff:s0 tcontext=u:r:b:s0',
        f"type=AVC msg=audit(1.0:2): avc:  denied  {{ {'x' * 5000} }} for  scontext=u:r:{'y' * 9000}:s0 tclass={'z' * 999}",
        "type=AVC msg=audit(1.0:3): avc:  granted  { load_policy } for  scontext=u:r:a:s0 tcontext=u:r:b:s0 tclass=security",
        "nothing",
    ]

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
        events = tuple(Denied((line,), 1, 1.0, 1.0) for line in lines)
        found = Denials(True, world.clock().timestamp(), {}, events)
        taken = await world.store.awrite(lambda tx: denials.take(tx, "web1", found, denials.parsed(found)))
        assert (taken.number, taken.told) == (2, (("Server", "web1"),))
        stored = await rows(world)
        assert [row.log_level for row in stored] == ["info", "warning", "warning"]
        assert max(len(str(row)) for row in stored) < 4000
        (said,) = [line for line in await world.events("Server", "web1") if "SELinux" in line]
        assert len(said) < 400

    played(tmp_path, scene)


def test_a_server_keeps_its_newest_denials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "KEPT", 50)
    monkeypatch.setattr(denials, "VARIETY", 1000)

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            for n in range(300):
                deny(world, of, path=f"/home/web2/{n}")
                await asyncio.sleep(0.1)

            async def there() -> bool:
                return "/home/web2/299" in [row.context["path"] for row in await rows(world) if row.context]

            await world.until(there, 60)
            found = [row.context["path"] for row in await rows(world) if row.context]
            assert sorted(found) == sorted(f"/home/web2/{n}" for n in range(250, 300))
            # one event for all of them, not one each
            assert len([e for e in await world.events("Site", "site1-1") if "SELinux" in e]) == 1

    played(tmp_path, scene)


def test_a_site_that_asks_for_ever_other_files_cannot_have_the_rest_forgotten(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            deny(world, of, "site1-2", path="/home/web1/.env")
            await counted(world, 1)
            for n in range(1, 2000):
                deny(world, of, path=f"/home/web2/{n}", command=f"php{n}")
            await counted(world, 2000)
            found = [row.context for row in await rows(world) if row.context]
            assert len(found) == 1 + denials.VARIETY + 1
            (others,) = [one for one in found if one["count"] > 1]
            assert (others["count"], others["path"], others["command"]) == (
                1999 - denials.VARIETY,
                None,
                None,
            )
            assert others["permissions"] == ["read"]
            deny(world, of, path="/home/web2/1", command="php1")
            await counted(world, 2001)
            assert len(await rows(world)) == len(found), "what has a row is counted there"

    played(tmp_path, scene)


def test_what_programs_call_themselves_shows_no_secret(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            await world.converged()
            daemon.parts.redact.add(Secret("hunter22-hunter22"))
            of = await levels(world)
            deny(world, of, command="x hunter22-hunter22", path="/home/web2/hunter22-hunter22")
            await counted(world, 1)
            (row,) = await rows(world)
            assert "hunter22" not in f"{row.message}{row.context}{await world.events('Site', 'site1-1')}"

    played(tmp_path, scene)


def test_one_answer_that_reaches_over_a_change_is_parted_there(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
        change_at = world.clock()

        def unit(tx: Tx) -> None:
            rollouts.put(tx, "main", "c" * 40, "web1", "soaking")

        await world.store.awrite(unit)
        node = world.node("web1")
        for n in range(-30, 10):
            deny(world, of, at=change_at + timedelta(seconds=n + 0.5))
        await asyncio.sleep(20)
        found = node.audit.tell(None, 10, world.clock().timestamp())
        await world.store.awrite(lambda tx: denials.take(tx, "web1", found, denials.parsed(found)))
        after, before = await rows(world)
        assert (before.count, after.count) == (30, 10)
        assert before.last_at < change_at <= after.first_at
        server = await world.store.aread(lambda tx: servers.get(tx, "web1"))
        assert server is not None
        number = await world.store.aread(lambda tx: selinux_audit_logs.count_since(tx, server.id, change_at))
        assert number == 10
        kept = await world.store.aread(lambda tx: audit_cursors.get(tx, server.id))
        assert kept is not None
        assert kept.cursor == found.cursor

    played(tmp_path, scene)
