"""Steps that could lock the daemon out, in a folder node: they come last, and are undone unless they are confirmed.

That the timer survives a reboot and that a real firewall is put back is tested on nodes, in test_host_on_nodes.py.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from .building import bundle, directory, file, section, sha
from .talking import Here, Refused, Talk, ulid

DROP_IN = "/etc/ssh/sshd_config.d/01-panel.conf"
SSHD_SCRIPT = f"""
echo "sshd $1" >> $root/calls
if grep -q bad $root{DROP_IN} 2>/dev/null; then echo "{DROP_IN}: bad configuration" >&2; exit 255; fi
if [ "$1" = -T ]; then echo "port $(sed -n 's/^Port //p' $root{DROP_IN})"; fi
"""
SYSTEMCTL_SCRIPT = """
case "$1" in
  show) shift; for word; do case "$word" in --*) ;; *)
      printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=enabled\\n\\n';; esac; done; exit;;
esac
echo "$2 $4" >> $root/calls
"""


@pytest.fixture
def node(here: Here) -> Here:
    here.path("/etc/ssh/sshd_config.d").mkdir(parents=True)
    here.program_on_path("sshd", SSHD_SCRIPT)
    here.program_on_path("systemctl", SYSTEMCTL_SCRIPT)
    here.program_on_path("journalctl", "true")
    return here


def made(text: str = "Port 22\n", *more: dict[str, Any]) -> dict[str, Any]:
    return bundle(
        section(
            "Server/web1",
            {
                "type": "sshd",
                "key": "sshd:node",
                "unit": "sshd.service",
                "sha256": sha(text.encode()),
                "size": len(text),
                "expect": {"port": ["22"]},
            },
            *more,
        )
    )


def apply(
    talk: Talk, number: int, wanted: dict[str, Any], *bodies: bytes, confirm: int = 60
) -> dict[str, Any]:
    digest = talk.hand_over(wanted, *bodies)
    return talk.ask("apply", deployment=ulid(number), digest=digest, sections=None, fence=1, confirm=confirm)


def confirm(node: Here, number: int) -> str:
    with node.talk() as talk:
        return str(talk.ask("confirm", deployment=ulid(number))["state"])


def calls(node: Here) -> list[str]:
    path = node.path("/calls")
    found = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return found


def wait_until(what: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_confirmed_change_stays_and_the_next_apply_is_taken(node: Here) -> None:
    with node.talk() as talk:
        outcome = apply(talk, 1, made("Port 22\n", directory("/etc/panel/late")), b"Port 22\n")
        assert (outcome["state"], outcome["confirm"], outcome["confirm_seconds"]) == (
            "succeeded",
            "wanted",
            60,
        )
        # the folder comes after it in the section and before it in time
        order = [key for kind, key in talk.types("step_done", "armed")]
        assert order == ["directory:/etc/panel/late", "", "sshd:node"]
        with pytest.raises(Refused) as refused:
            apply(talk, 2, made("Port 23\n"), b"Port 23\n")
        assert (refused.value.code, refused.value.error["deployment"]) == ("unconfirmed", ulid(1))
    assert "waits" in node.call("status").stdout
    assert confirm(node, 1) == "confirmed"
    assert confirm(node, 1) == "confirmed"
    with node.talk() as talk:
        assert talk.ask("status", deployment=ulid(1))["confirm"] == "given"
        # nothing of the kind changes now, so nothing waits
        assert "confirm" not in apply(talk, 2, made("Port 22\n"), b"Port 22\n")
        with pytest.raises(Refused) as refused:
            talk.ask("confirm", deployment=ulid(77))
        assert refused.value.code == "unknown_deployment"
    assert node.call("revert", ulid(1)).returncode == 0
    assert node.path(DROP_IN).read_text() == "Port 22\n"


def test_what_nobody_confirms_is_put_back_and_said(node: Here) -> None:
    node.write(DROP_IN, "Port 21\n")
    with node.talk() as talk:
        outcome = apply(talk, 1, made("Port 22\n", directory("/etc/panel/stays")), b"Port 22\n", confirm=1)
        assert outcome["confirm"] == "wanted"
        calls(node)
        wait_until(lambda: node.path(DROP_IN).read_text() == "Port 21\n")
        wait_until(lambda: not node.path("/var/lib/panel/unconfirmed.json").exists())
        assert "reload sshd.service" in calls(node)
        late = talk.ask("status", deployment=ulid(1))
        assert (late["state"], late["confirm"]) == ("failed", "undone")
        section_ = late["sections"]["Server/web1"]
        assert (section_["state"], section_["kept"]) == ("failed", [])
        assert section_["message"] == "was undone by the node because it was not confirmed"
        assert ("rolled_back", "sshd:node") in talk.types("rolled_back")
    # the rest of the section was found right
    assert node.path("/etc/panel/stays").is_dir()
    assert confirm(node, 1) == "undone"


def test_a_rule_that_the_validator_refuses_fails_its_section_and_nothing_waits(node: Here) -> None:
    with node.talk() as talk:
        outcome = apply(talk, 1, made("bad\n", directory("/etc/panel/stays")), b"bad\n")
        assert outcome["state"] == "failed"
        assert "bad configuration" in outcome["sections"]["Server/web1"]["message"]
        assert not node.path(DROP_IN).exists()
        assert node.path("/etc/panel/stays").is_dir()
        assert "confirm" not in outcome
        # a setting that another file says first has no effect: that is told, not passed over
        outcome = apply(talk, 2, made("Port 2222\n"), b"Port 2222\n")
        assert "sshd has port 2222 and not 22" in outcome["sections"]["Server/web1"]["message"]
        assert not node.path("/var/lib/panel/unconfirmed.json").exists()


@pytest.mark.parametrize("moment", range(1, 36, 5))
def test_a_death_at_any_moment_leaves_the_old_rule_or_a_way_back(here: Here, node: Here, moment: int) -> None:
    """The runner dies at its n-th durable write; the node alone must come to the old state, and the next apply work."""
    node.write(DROP_IN, "Port 21\n")
    with node.talk(PANEL_TEST_DIE_AT=str(moment)) as talk:
        digest = talk.hand_over(made(), b"Port 22\n")
        outcome = talk.ask("apply", deployment=ulid(1), digest=digest, sections=None, fence=1, confirm=1)
    if node.path("/var/lib/panel/unconfirmed.json").exists() or outcome["state"] == "succeeded":
        wait_until(lambda: not node.path("/var/lib/panel/unconfirmed.json").exists() or settle(node))
        assert node.path(DROP_IN).read_text() == "Port 21\n"
    with node.talk() as talk:
        outcome = apply(talk, 2, made(), b"Port 22\n")
        assert outcome["state"] == "succeeded", outcome
        assert node.path(DROP_IN).read_text() == "Port 22\n"
    assert confirm(node, 2) == "confirmed"


def settle(node: Here) -> bool:
    """What systemd does after a failed `revert`, and after a reboot: start it again."""
    return node.call("revert", ulid(1)).returncode == 0


def test_a_revert_that_dies_is_begun_again(node: Here) -> None:
    node.write(DROP_IN, "Port 21\n")
    with node.talk() as talk:
        apply(talk, 1, made(), b"Port 22\n", confirm=600)
    import json
    import os
    import subprocess

    for moment in range(1, 8):
        env = {"PANEL_ROOT": str(node.root), "PANEL_TEST_DIE_AT": str(moment), "PATH": os.environ["PATH"]}
        argv = [node.python, "-I", "-S", str(node.program), "revert", ulid(1)]
        subprocess.run(argv, env=env, check=False, timeout=60)
        note = node.path("/var/lib/panel/unconfirmed.json")
        if not note.exists():
            break
        if json.loads(note.read_text()).get("undoing"):
            assert confirm(node, 1) == "undone"
    assert node.call("revert", ulid(2)).returncode == 0
    assert node.call("revert", ulid(1)).returncode == 0
    assert node.path(DROP_IN).read_text() == "Port 21\n"
    assert confirm(node, 1) == "undone"


def test_only_the_panels_own_drop_in_may_be_written(node: Here) -> None:
    with node.talk() as talk:
        for path in ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/00-other.conf", "/etc/ssh/ssh_host_key"):
            with pytest.raises(Refused) as refused:
                talk.ask("bundle", bundle=bundle(section("Server/web1", file(path, b""))))
            assert refused.value.code == "bad_request"
