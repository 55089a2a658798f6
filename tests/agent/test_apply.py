"""An apply in a folder node: order, rollback, the guilty section, reloads, secrets, and death at any instant.

systemctl and nginx are shell scripts here; that the real ones behave so is tested on nodes.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import package_lock
from reconciler.agent import section as sections
from reconciler.agent.faults import StepFault
from reconciler.agent.journal import Journal
from reconciler.agent.process import Finished
from reconciler.agent.scrub import MASK, Scrubber
from reconciler.agent.steps import packages

from .building import bundle, directory, file, gone, section, symlink, unit
from .talking import Here, Refused, Talk, ulid

NGINX = {"type": "nginx"}
SITES = "/etc/nginx/conf.d"

# Refuses a file that says "bad", naming it; refuses two files that say "clash", naming neither of ours.
NGINX_SCRIPT = f"""
for file in $root{SITES}/*.conf; do
  [ -e "$file" ] || continue
  if grep -q bad "$file"; then echo "nginx: [emerg] bad directive in $file:1" >&2; exit 1; fi
done
if [ "$(grep -l clash $root{SITES}/*.conf 2>/dev/null | wc -l)" -gt 1 ]; then echo "nginx: [emerg] a clash" >&2; exit 1; fi
echo test >> $root/calls
"""
SYSTEMCTL_SCRIPT = f"""
case "$1" in
  show) shift; for word; do case "$word" in --*) ;; *)
      printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=enabled\\n\\n';; esac; done; exit;;
esac
echo "$2 $4" >> $root/calls
if [ -e $root/fail-reload ] && grep -q "$(cat $root/fail-reload)" $root{SITES}/*.conf; then echo "it broke" >&2; exit 1; fi
"""


@pytest.fixture
def node(here: Here) -> Here:
    here.path(SITES).mkdir()
    here.program_on_path("nginx", NGINX_SCRIPT)
    here.program_on_path("systemctl", SYSTEMCTL_SCRIPT)
    here.program_on_path("journalctl", "true")
    return here


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def vhost(name: str, text: str) -> dict[str, Any]:
    return file(f"{SITES}/{name}.conf", text.encode(), validate=NGINX)


def server(*more: str) -> dict[str, Any]:
    web = unit("nginx.service", active=True, reload_on=[f"file:{SITES}/*"], restart_on=list(more))
    return section("Server/web1", web)


def sites(*restart_on: str, **texts: str) -> tuple[dict[str, Any], list[bytes]]:
    """A bundle with a vhost per site, and the bodies."""
    made = [section(f"Site/{name}", vhost(name, text)) for name, text in texts.items()]
    return bundle(server(*restart_on), *made), [text.encode() for text in texts.values()]


def apply(talk: Talk, number: int, made: tuple[dict[str, Any], list[bytes]]) -> dict[str, str]:
    """The state of each site."""
    outcome = talk.apply(number, made[0], *made[1])
    return {
        name.removeprefix("Site/"): part["state"]
        for name, part in outcome["sections"].items()
        if "Site" in name
    }


def calls(node: Here) -> list[str]:
    """What nginx and systemctl were asked since the last look."""
    path = node.path("/calls")
    found = path.read_text().split("\n")[:-1] if path.exists() else []
    path.write_text("")
    return found


def conf(node: Here) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(node.path(SITES).iterdir())}


RELOAD = "reload nginx.service"


def test_many_changes_are_validated_and_reloaded_once(node: Here, talk: Talk) -> None:
    assert apply(talk, 1, sites(a="1", b="2", c="3")) == dict.fromkeys("abc", "succeeded")
    assert calls(node) == ["test", RELOAD]
    assert apply(talk, 2, sites(a="1", b="2", c="4")) == {
        "a": "unchanged",
        "b": "unchanged",
        "c": "succeeded",
    }
    assert calls(node) == ["test", RELOAD]
    assert apply(talk, 3, sites(a="1", b="2", c="4")) == dict.fromkeys("abc", "unchanged")
    assert calls(node) == []
    assert not node.path("/var/lib/panel/pending.json").exists()


def test_a_restart_swallows_a_reload(node: Here, talk: Talk) -> None:
    apply(talk, 1, sites(f"file:{SITES}/b.conf", a="1", b="2"))
    assert calls(node) == ["test", "try-restart nginx.service"]


def test_a_removal_is_validated_and_reloaded_too(node: Here, talk: Talk) -> None:
    apply(talk, 1, sites(a="1", b="2"))
    calls(node)
    removal = {**gone(vhost("b", "2")), "validate": NGINX}
    outcome = talk.apply(2, bundle(server(), section("Site/b", removal)))
    assert (outcome["state"], outcome["reloaded"]) == ("succeeded", ["nginx.service"])
    assert (calls(node), conf(node)) == (["test", RELOAD], {"a": "1"})


def test_the_blamed_sites_are_put_back_and_the_others_stay(node: Here, talk: Talk) -> None:
    apply(talk, 1, sites(a="1", b="2", c="3"))
    states = apply(talk, 2, sites(a="10", b="bad", c="bad too", d="4"))
    assert states == {"a": "succeeded", "b": "failed", "c": "failed", "d": "succeeded"}
    assert conf(node) == {"a": "10", "b": "2", "c": "3", "d": "4"}
    assert calls(node)[-1] == RELOAD


def test_without_a_name_the_guilty_site_is_found_by_trial(node: Here, talk: Talk) -> None:
    states = apply(talk, 1, sites(a="1", b="clash", c="clash", d="4", e="5"))
    assert states == {"a": "succeeded", "b": "succeeded", "c": "failed", "d": "succeeded", "e": "succeeded"}
    assert conf(node) == {"a": "1", "b": "clash", "d": "4", "e": "5"}


def test_when_nothing_helps_all_are_put_back_and_told_why(node: Here, talk: Talk) -> None:
    node.write(f"{SITES}/by-hand.conf", "bad")
    outcome = talk.apply(1, sites(a="1", b="2")[0], b"1", b"2")
    for name in ("Site/a", "Site/b"):
        assert outcome["sections"][name]["state"] == "failed"
        assert "too)" in outcome["sections"][name]["message"]
    assert conf(node) == {"by-hand": "bad"}
    assert RELOAD not in calls(node)


def test_a_reload_that_fails_puts_back_who_asked_and_reloads_again(node: Here, talk: Talk) -> None:
    apply(talk, 1, sites(a="1", b="2"))
    node.write("/fail-reload", "evil")
    calls(node)
    assert apply(talk, 2, sites(a="1", b="evil")) == {"a": "unchanged", "b": "failed"}
    assert (calls(node), conf(node)) == (["test", RELOAD, RELOAD], {"a": "1", "b": "2"})


def test_a_failing_step_puts_its_section_back_in_reverse_order(node: Here, talk: Talk) -> None:
    node.write("/etc/panel/old", "old").chmod(0o640)
    node.path("/etc/panel/link").symlink_to("old")
    steps = [
        directory("/etc/panel/new"),
        file("/etc/panel/new/file", b"x"),
        file("/etc/panel/old", b"x"),
        symlink("/etc/panel/link", "new"),
        file("/etc/panel/no/such", b"x"),
    ]
    outcome = talk.apply(1, bundle(section("Site/a", *steps), section("Site/b", needs=("Site/a",))), b"x")
    assert {name: part["state"] for name, part in outcome["sections"].items()} == {
        "Site/a": "failed",
        "Site/b": "skipped",
    }
    assert outcome["sections"]["Site/a"]["kept"] == []
    back = [key for _, key in talk.types("rolled_back")]
    assert back == [step["key"] for step in reversed(steps)]
    old = node.path("/etc/panel/old")
    assert (old.read_text(), oct(old.stat().st_mode & 0o777)) == ("old", "0o640")
    assert os.readlink(node.path("/etc/panel/link")) == "old"
    assert sorted(path.name for path in node.path("/etc/panel").iterdir()) == ["link", "old"]


def test_a_folder_in_use_is_named_as_kept(node: Here, talk: Talk) -> None:
    node.program_on_path("visudo", "touch $root/etc/panel/new/in-use; exit 1")
    node.path("/etc/sudoers.d").mkdir()
    rule = file("/etc/sudoers.d/panel-x", b"x", mode="0440", validate={"type": "sudoers"})
    outcome = talk.apply(1, bundle(section("Site/a", directory("/etc/panel/new"), rule)), b"x")
    assert outcome["sections"]["Site/a"]["kept"] == ["directory:/etc/panel/new"]
    assert node.path("/etc/panel/new/in-use").exists()
    assert not node.path("/etc/sudoers.d/panel-x").exists()


def test_only_the_named_sections_are_applied_but_their_reloads_are_done(node: Here, talk: Talk) -> None:
    made, bodies = sites(a="1", b="2")
    outcome = talk.apply(1, made, *bodies, sections=["Site/b"])
    assert (list(outcome["sections"]), outcome["reloaded"]) == (["Site/b"], ["nginx.service"])
    assert conf(node) == {"b": "2"}
    digest = talk.ask("hello", protocol=1)["bundle"]
    assert [d["section"] for d in talk.ask("check", digest=digest)["differences"]] == ["Site/a"]


def points_of_death() -> int:
    """More than there are durable writes in the apply below."""
    return 40


def test_a_runner_killed_at_any_write_is_interrupted_and_the_next_apply_settles_it(node: Here) -> None:
    """After each death: the outcome says so, a check is not in sync or nothing is owed, and applying again ends in the
    wanted state, validated and reloaded after the last change."""
    died = 0
    for point in range(1, points_of_death()):
        with node.talk() as talk:
            apply(talk, 1000 + point, sites(a="1", b="2"))
        node.path(f"{SITES}/c.conf").unlink(missing_ok=True)
        calls(node)
        with node.talk(PANEL_TEST_DIE_AT=str(point)) as talk:
            first = apply_raw(talk, 2000 + point)
        if first["state"] == "succeeded":
            break
        died += 1
        assert first["state"] == "interrupted"
        changed = conf(node) != {"a": "1", "b": "2"}
        reloaded = RELOAD in calls(node)
        with node.talk() as talk:
            assert talk.ask("hello", protocol=1)["running"] is None
            again = apply_raw(talk, 3000 + point)
            assert again["state"] == "succeeded", (point, again)
            assert talk.ask("check", digest=talk.ask("hello", protocol=1)["bundle"])["in_sync"]
            if talk.ask("status", deployment=ulid(2000 + point))["state"] != "succeeded":
                assert reloaded or RELOAD in calls(node), (point, changed)
        assert conf(node) == {"a": "new", "b": "2", "c": "3"}
        assert not node.path("/var/lib/panel/pending.json").exists()
    else:
        raise AssertionError("the apply has more durable writes than the test tries")
    assert died > 8


def apply_raw(talk: Talk, number: int) -> dict[str, Any]:
    made, bodies = sites(a="new", b="2", c="3")
    return talk.apply(number, made, *bodies)


def test_a_broken_file_left_by_a_dead_runner_is_put_back_by_the_next_apply(node: Here, talk: Talk) -> None:
    """The second apply finds the file as wanted; what it was before is known from the journal of the dead one."""
    apply(talk, 1, sites(a="1", b="2"))
    node.program_on_path(
        "nginx", "echo $$ > $root/waiting.new; mv $root/waiting.new $root/waiting; exec sleep 60"
    )
    made, bodies = sites(a="1", b="bad")
    digest = talk.hand_over(made, *bodies)
    talk.request("apply", deployment=ulid(2), digest=digest, sections=None, fence=1)
    deadline = time.monotonic() + 30
    while not node.path("/waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    node.kill_runner()
    os.kill(int(node.path("/waiting").read_text()), signal.SIGKILL)
    assert talk.answer()["state"] == "interrupted"
    assert conf(node)["b"] == "bad"
    node.program_on_path("nginx", NGINX_SCRIPT)
    digest = talk.ask("hello", protocol=1)["bundle"]
    owed = talk.ask("check", digest=digest)["differences"]
    assert ("unit:nginx.service", "a reload is still owed since an apply was interrupted") in [
        (difference["key"], difference["note"]) for difference in owed
    ]
    assert apply(talk, 3, (made, bodies)) == {"a": "unchanged", "b": "failed"}
    assert conf(node) == {"a": "1", "b": "2"}


def test_secrets_are_masked_wherever_programs_repeat_them(node: Here, talk: Talk) -> None:
    body = b"DB_PASSWORD='hunter2hunter2'\nAPP_KEY=base64:c2VjcmV0\n"
    node.program_on_path("nginx", "echo 'cannot parse hunter2hunter2 and base64:c2VjcmV0' >&2; exit 1")
    env = file("/etc/panel/env", body, secret=True, mode="0600", validate=NGINX)
    outcome = talk.apply(1, bundle(section("Site/a", env)), body)
    message = outcome["sections"]["Site/a"]["message"]
    assert f"cannot parse {MASK} and {MASK}" in message
    assert "hunter2" not in str(talk.events) + str(outcome)
    journal = node.path(f"/var/lib/panel/journal/{ulid(1)}")
    assert {path.name for path in journal.iterdir()} == {"intent.json", "events.ndjson", "outcome.json"}
    for path in journal.iterdir():
        assert b"hunter2" not in path.read_bytes()
        assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_the_longest_secret_is_masked_first() -> None:
    scrubber = Scrubber()
    scrubber.learn("secret")
    scrubber.learn("secret-and-more")
    scrubber.learn("abc")
    assert scrubber.clean("x secret-and-more, secret, abc") == f"x {MASK}, {MASK}, abc"


def test_the_log_of_a_section_keeps_its_head_and_its_tail(inside: Here) -> None:
    inside.path(f"/var/lib/panel/journal/{ulid(1)}").mkdir()
    journal = Journal(ulid(1), lambda text: text)
    log = sections.Log(journal)
    log.begin("Site/a", None)
    for number in range(20_000):
        log.write("stdout", f"line {number} " + "x" * 50 + "\n")
    log.write("stdout", "y" * 100_000)
    log.end()
    lines = inside.path(f"/var/lib/panel/journal/{ulid(1)}/events.ndjson").read_text()
    assert "line 0 " in lines
    assert "line 19999 " in lines
    assert "line 10000 " not in lines
    assert "bytes of output left out" in lines
    assert lines.count("x") + lines.count("y") < 256 * 1024
    assert "y" * 8192 in lines
    assert "y" * 8193 not in lines


def test_an_apply_with_a_smaller_fence_is_refused_after_a_greater_one(node: Here, talk: Talk) -> None:
    made, bodies = sites(a="1")
    assert talk.apply(1, made, *bodies, fence=5)["state"] == "succeeded"
    with pytest.raises(Refused, match="fenced"):
        talk.apply(2, made, fence=4)
    assert talk.apply(3, made, fence=5)["state"] == "succeeded"
    assert talk.ask("hello", protocol=1)["fence"] == 5


def test_a_journal_that_cannot_be_written_is_told_at_once(node: Here, talk: Talk) -> None:
    digest = talk.hand_over(sites(a="1")[0], b"1")
    journal = node.path("/var/lib/panel/journal")
    journal.rmdir()
    journal.write_text("in the way")
    with pytest.raises(Refused, match="internal"):
        talk.ask("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
    journal.unlink()
    journal.mkdir()
    assert talk.ask("hello", protocol=1)["running"] is None
    assert (
        talk.ask("apply", deployment=ulid(2), digest=digest, sections=None, fence=1)["state"] == "succeeded"
    )


def test_damaged_state_of_the_agents_own_is_survived(node: Here, talk: Talk) -> None:
    apply(talk, 1, sites(a="1"))
    for name in ("cache.json", "bundle.json", "bundle-next.json", "passwords.json"):
        node.write(f"/var/lib/panel/{name}", b"{\xff")
    with node.talk() as other:
        assert other.ask("hello", protocol=1)["bundle"] is None
        assert apply(other, 2, sites(a="2")) == {"a": "succeeded"}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("dnf", Finished(200, "", "", timed_out=False)),
        ("apt-get", Finished(100, "", "E: Could not get lock /var/lib/dpkg/lock-frontend", timed_out=False)),
    ],
)
def test_a_package_lock_that_is_never_released_ends_in_a_plain_message(
    inside: Here, monkeypatch: pytest.MonkeyPatch, program: str, said: Finished
) -> None:
    monkeypatch.setattr(packages, "_LOCK_WAIT_SECONDS", -1.0)
    with pytest.raises(StepFault, match="the package manager is locked by another program"):
        packages._unlocked(lambda: said, program)


def test_the_holder_of_a_package_lock_is_named(inside: Here) -> None:
    lock = inside.write("/var/lib/dpkg/lock-frontend", "")
    assert package_lock.holder() == ""
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        assert package_lock.holder() == f"{name} (process {holder.pid})"
        with lock.open("a") as other, pytest.raises(BlockingIOError):
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
