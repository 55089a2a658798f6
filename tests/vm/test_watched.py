"""While the daemon serves: it learns what was refused, says which switch is off, and is not led astray by what sites plant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm import denials
from tests.vm.stage import SERVER
from tests.vm.world import PROVISIONED, World

# As site one's user can make it: names that are no names, ways out of the home, a label for everybody.
PLANTED = r"""
cd /home/web1/storage
install -o web1 -g web1 /dev/null "$(printf 'a\nb  \047 \042 ; $(reboot) %%n')"
install -o web1 -g web1 /dev/null ' -rf'
runuser -u web1 -- ln -s /home/web2/storage/secret way
runuser -u web1 -- ln -s /etc etc
runuser -u web1 -- mkfifo pipe
touch stray; chown web1: stray; chcon -l s0 stray
"""
SECRET = "stat -c '%C %U %a' /home/web2/storage/secret /etc/shadow /etc"


@pytest.fixture(scope="module")
def watched(built: World) -> Iterator[World]:
    """The sites with their daemon."""
    built.machine.restore(PROVISIONED)
    stage = built.stage
    settings = stage.settings.read_text()
    with stage.put_back():
        stage.settings.write_text(settings.replace("limits: {", "limits: {denials: 2s, "))
        with stage.served(60):
            yield built
    stage.settings.write_text(settings)


def _listed(world: World, *words: str) -> list[dict[str, Any]]:
    found = world.stage.run("avc", "--output", "json", *words).json
    assert isinstance(found, list)
    return found


def test_what_a_site_tried_is_recorded_as_its_own(watched: World) -> None:
    watched.machine.run("chmod -R 0777 /home/web2")
    code = "echo json_encode([@file_get_contents('/home/web2/storage/secret'), posix_kill(PID, 9)]);"
    pid = watched.pid("two")
    for _ in range(3):
        assert watched.php("one", code.replace("PID", str(pid))) == "[false,false]"

    def recorded() -> bool:
        # read from outside: the command line has a test of its own below
        return watched.stage.count("selinux_audit_logs", "site_id IS NOT NULL") > 0

    watched.stage.wait(recorded, 300)
    shown = json.dumps(_listed(watched, "--site", "one"))
    assert "site_content_t" in shown
    assert _listed(watched, "--site", "two") == []
    assert "isolation" in watched.stage.run("avc", "--site", "one", "--explain").out


def test_what_a_site_plants_leads_the_agent_nowhere(watched: World) -> None:
    machine, stage = watched.machine, watched.stage
    before = machine.output(SECRET)
    marked = denials.mark(machine)
    master = watched.pid("one")
    machine.run(PLANTED)
    stage.fleet.change("Site", "one", php={"memoryLimit": "96M"})
    stage.push("Give site one more memory")
    stage.reach()
    assert machine.output(SECRET) == before
    assert watched.php("one", "echo ini_get('memory_limit');") == "96M"
    assert watched.pid("one") == master, "it was reloaded, not started anew"
    level = watched.sites["one"].level
    labels = machine.output(r"find /home/web1 -printf '%Z\n' | sort -u").splitlines()
    assert all(label.endswith(f":{level}") for label in labels), labels
    assert denials.since(machine, marked) == ()


def test_a_switch_that_is_off_is_named(watched: World) -> None:
    stage = watched.stage
    off = {"panel_can_manage_users": False, "panel_can_reload_nginx": False}
    stage.fleet.change("Server", SERVER, selinux={"mode": "enforcing", "booleans": off})
    stage.site("three", SERVER)
    stage.fleet.change("Site", "one", aliases=["www.one.test"])
    stage.push("Switch off what the daemon may do, and ask for it")
    stage.wait(lambda: "panel_can_manage_users" in stage.says("Site", "three", "Ready"), 600)
    stage.wait(lambda: "panel_can_reload_nginx" in stage.says("Site", "one", "Ready"), 600)
    assert watched.machine.run("id web3", check=False).returncode != 0
    for name in ("one", "two"):
        assert stage.get(name)[0] == 200
