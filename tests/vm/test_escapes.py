"""Between two sites of the daemon there is nothing left but SELinux: and it holds.

Both run as the same user here, with modes of 0777, without systemd's sandbox, open_basedir and disabled functions.
"""

from __future__ import annotations

import threading

import pytest

from tests.selinux import policy
from tests.vm import denials
from tests.vm.escapes import ESCAPES, Escape
from tests.vm.world import OPENED, World

CONSTRAINT = "typeattribute laravel_php_fpm_t mcs_constrained_type;"


@pytest.fixture(scope="module")
def prey(opened: World) -> int:
    """What the escapes look for: the master of site two's PHP, whose id is returned, a file in /tmp, a program of root."""
    assert (
        opened.php("two", "echo file_put_contents('/tmp/of-two', 'of two') && chmod('/tmp/of-two', 0777);")
        == "1"
    )
    opened.machine.run(
        "install -m 4755 -o root /bin/dash /home/web1/storage/rootsh; restorecon -F /home/web1/storage/rootsh"
    )
    same = opened.machine.output(f"ps -o user= -p {opened.pid('one')},{opened.pid('two')} | sort -u")
    assert same == "web1", "else users would keep them apart"
    return opened.pid("two")


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.name.replace(" ", "_"))
def test_it_does_not_get_out(opened: World, prey: int, escape: Escape) -> None:
    marked = denials.mark(opened.machine)
    assert not escape.through(opened, prey)
    found = denials.since(opened.machine, marked)
    assert escape.left(found), [denials.refusal(denial) for denial in found]
    assert {denial.source.level for denial in found if denial.source} == {opened.sites["one"].level}


def test_a_race_for_a_name_in_tmp_gives_nothing(opened: World) -> None:
    trap = "file_put_contents('/tmp/race', ''); chmod('/tmp/race', 0777); echo 'set';"
    assert opened.php("one", trap) == "set"
    assert opened.php("two", "echo json_encode(@file_put_contents('/tmp/race', 'of two'));") == "false"
    assert opened.php("one", "echo json_encode(file_get_contents('/tmp/race'));") == '""'


def test_sockets_without_a_name_are_no_way_either(opened: World) -> None:
    listening = r"$s = stream_socket_server('unix://' . chr(0) . 'two'); echo @stream_socket_accept($s, 4) ? 'in' : 'out';"
    heard: list[str] = []
    victim = threading.Thread(target=lambda: heard.append(opened.php("two", listening)))
    victim.start()
    connect = (
        r"usleep(1500000); echo @stream_socket_client('unix://' . chr(0) . 'two', $e, $s, 2) ? 'in' : $s;"
    )
    assert opened.php("one", connect) == "Permission denied"
    victim.join(30)
    assert heard == ["out"]


def test_labels_in_an_uploaded_archive_count_for_nothing(opened: World) -> None:
    machine, own = opened.machine, opened.sites["one"].level
    machine.run(
        "set -e; cd /root; echo bait >bait; chcon -u system_u -t laravel_app_rw_t -l s0 bait\n"
        "tar --xattrs --selinux -cf /home/web1/storage/up.tar bait; restorecon -F /home/web1/storage/up.tar"
    )
    unpack = "$t = new PharData('/home/web1/storage/up.tar'); echo $t->extractTo('/home/web1/storage/up', null, true) ? 'done' : '';"
    assert opened.php("one", unpack) == "done"
    assert machine.output("stat -c %C /home/web1/storage/up/bait").endswith(f":laravel_app_rw_t:{own}")
    machine.run("mkdir /root/up; tar --xattrs --selinux -xf /home/web1/storage/up.tar -C /root/up")
    label = machine.output("stat -c %C /root/up/bait")
    assert label.endswith(":laravel_app_rw_t:s0"), "else there would be no label in it"


def test_at_the_same_level_there_is_no_wall_and_relabelled_there_is(opened: World) -> None:
    read = next(escape for escape in ESCAPES if escape.name == "read a file")
    own = opened.sites["one"].level
    opened.machine.run(f"chcon -R -l {own} /home/web2")
    assert read.through(opened, 0)
    opened.machine.run("restorecon -RF /home/web2")
    assert not read.through(opened, 0)


def test_without_the_constraint_of_categories_every_one_of_them_gets_out(
    opened: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the escapes are refused by is the level and nothing that was overlooked, and they would be seen to succeed."""
    machine = opened.machine
    machine.restore(OPENED)
    opened.php("two", "file_put_contents('/tmp/of-two', 'of two'); chmod('/tmp/of-two', 0777);")
    pid = opened.pid("two")
    folder = tmp_path_factory.mktemp("without")
    source = (policy.SOURCE / "panel.te").read_text()
    assert CONSTRAINT in source
    package = policy.compiled(source.replace(CONSTRAINT, ""), folder)
    machine.run("base64 -d >/root/panel.pp", stdin=policy.run("base64", str(package), cwd=folder))
    machine.run("semodule -X 400 -i /root/panel.pp", timeout=300)
    through = {escape.name for escape in ESCAPES if escape.through(opened, pid)}
    assert through == {escape.name for escape in ESCAPES if escape.wall == "categories"}
