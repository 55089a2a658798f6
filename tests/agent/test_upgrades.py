"""Upgrades, with a dnf and an apt that keep versions, offer newer ones, and refuse as the real ones do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from .building import bundle, package, section
from .talking import Here, Refused, Talk

# `installed` and `newer` are lines of a name and a version; `says` makes it fail with these words
DNF = r"""
echo "$@" >> $root/calls
if [ -s $root/says ]; then cat $root/says >&2; exit $(cat $root/code); fi
case " $* " in
*" repoquery "*) while read name version; do case " $* " in *" $name "*) printf '%s\t%s\n' $name $version;; esac; done < $root/newer; exit;;
esac
while [ "${1#-}" != "$1" ]; do shift; done
if [ "$1 $2" = "remove --duplicates" ]; then sed -i "$(cat $root/older)d" $root/installed; exit; fi
[ $1 = upgrade ] || exit 0
shift
for name; do
    version=$(sed -n "s/^$name //p" $root/newer)
    grep -q "^$name $version" $root/installed && continue
    [ -z "$version" ] || sed -i "s/^$name .*/$name $version/" $root/installed
done
"""
RPM = r"""
[ "$2" = --whatprovides ] && exit 1
if [ "$1" = -qa ]; then
    while read name version; do printf '%s\tx86_64\t%s-%s.src.rpm\n' $name ${name%%-*} $version; done < $root/installed
    exit
fi
form="$3"; shift 3
for name; do
    for version in $(sed -n "s/^$name //p" $root/installed); do
        case "$form" in *VERSION*) printf '%s\t%s\n' $name $version;; *) echo $name;; esac
    done
done
exit 0
"""
APT = r"""
echo "$@" >> $root/calls
case " $* " in
*" update "*) if [ -s $root/says ]; then cat $root/says >&2; exit 100; fi;;
*" -s "*) echo "Inst nginx [1.0-1] (1.0-2 lab:stable [amd64])"; echo "Inst libnginx [1.0-1] (1.0-2 lab:stable [amd64])";;
esac
"""
DPKG = r"""printf 'nginx\t1.0-1\tinstalled\n'"""


@pytest.fixture
def node(here: Here) -> Here:
    here.program_on_path("dnf", DNF)
    here.program_on_path("rpm", RPM)
    here.write("/installed", "nginx 1.0-1\nnginx-core 1.0-1\nother 3.0-1\n")
    here.write("/newer", "nginx 1.0-2\nother 3.0-2\n")
    for name in ("/says", "/code", "/calls"):
        here.write(name, "")
    here.write("/older", "1")
    return here


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def wanted(**packages: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): version for name, version in packages.items()}
    step = {"type": "upgrade", "key": "upgrade:nginx", "software": "nginx", "packages": names}
    return bundle(section("Server/web1", step), package_manager="dnf")


def ended(outcome: dict[str, Any]) -> tuple[str, str]:
    found = outcome["sections"]["Server/web1"]
    return found["state"], found["message"]


def versions(node: Here) -> list[str]:
    return node.path("/installed").read_text().splitlines()


def test_only_the_named_packages_are_upgraded_and_only_once(node: Here, talk: Talk) -> None:
    assert ended(talk.apply(1, wanted(nginx="1.0-1"))) == ("succeeded", "")
    assert versions(node) == ["nginx 1.0-2", "nginx-core 1.0-1", "other 3.0-1"]
    called = node.path("/calls").read_text()
    assert ended(talk.apply(2, wanted(nginx="1.0-1"))) == ("unchanged", "")
    assert node.path("/calls").read_text() == called


def test_what_no_repository_has_is_a_fault_that_leaves_everything(node: Here, talk: Talk) -> None:
    before = versions(node)
    state, message = ended(talk.apply(1, wanted(nginx_core="1.0-1")))
    assert (state, message.rpartition(": ")[2]) == (
        "failed",
        "no repository has a newer nginx-core than 1.0-1",
    )
    assert versions(node) == before


def test_a_transaction_that_fails_is_told_in_the_words_of_the_package_manager(node: Here, talk: Talk) -> None:
    node.write("/says", "Error: disk space: at least 3MB more space needed\n")
    node.write("/code", "1")
    state, message = ended(talk.apply(1, wanted(nginx="1.0-1")))
    assert state == "failed"
    assert "at least 3MB more space needed" in message
    assert "nginx 1.0-1" in versions(node)


def test_what_there_is_to_upgrade_to_is_asked_without_a_change(node: Here, talk: Talk) -> None:
    before = versions(node)
    found = talk.ask("updates", packages=["nginx", "nginx-core", "unknown"])
    assert found == {
        "packages": {
            "nginx": {"installed": "1.0-1", "available": "1.0-2"},
            "nginx-core": {"installed": "1.0-1", "available": None},
        }
    }
    assert versions(node) == before


def test_two_builds_that_a_power_cut_left_become_one(node: Here, talk: Talk) -> None:
    node.write("/installed", "nginx 1.0-1\nnginx 1.0-2\nnginx-core 1.0-2\n")
    assert ended(talk.apply(1, wanted(nginx="1.0-1"))) == ("succeeded", "")
    assert versions(node) == ["nginx 1.0-2", "nginx-core 1.0-2"]
    assert ended(talk.apply(2, wanted(nginx="1.0-1"))) == ("unchanged", "")


def test_what_a_power_cut_left_of_a_package_that_came_along_is_finished_too(node: Here, talk: Talk) -> None:
    node.write("/installed", "nginx-core 1.0-1\nnginx-core 1.0-2\nnginx 1.0-2\n")
    assert ended(talk.apply(1, wanted(nginx="1.0-1"))) == ("succeeded", "")
    assert versions(node) == ["nginx-core 1.0-2", "nginx 1.0-2"]


def test_two_builds_of_something_else_are_somebodys_wish(node: Here, talk: Talk) -> None:
    node.write("/installed", "kernel 1.0-1\nkernel 1.0-2\nnginx 1.0-1\n")
    assert ended(talk.apply(1, wanted(nginx="1.0-1"))) == ("succeeded", "")
    assert versions(node) == ["kernel 1.0-1", "kernel 1.0-2", "nginx 1.0-2"]


def test_a_transaction_that_cannot_be_finished_is_a_fault(node: Here, talk: Talk) -> None:
    node.write("/installed", "nginx 1.0-1\nnginx 1.0-2\n")
    node.write("/says", "Error: no room\n")
    node.write("/code", "0")
    state, message = ended(talk.apply(1, wanted(nginx="1.0-0")))
    assert state == "failed"
    assert "does not come to an end with nginx" in message


# the main process stays the old one for a while: it finishes what it has
SYSTEMCTL = r"""
echo "$@" >> $root/control
case "$*" in
*MainPID*) printf 'MainPID=1\nPIDFile=/run/nginx.pid\n';;
show*) printf 'Id=nginx.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n';;
esac
"""


@pytest.mark.parametrize("goes_over", [True, False])
def test_what_the_packages_scripts_have_gone_over_is_not_restarted(
    node: Here, talk: Talk, goes_over: bool
) -> None:
    begins = "sleep 0.1; sleep 20 >&- 2>&- & echo $! > $root/run/nginx.pid"
    node.program_on_path("dnf", DNF + (begins if goes_over else ""))
    node.program_on_path("systemctl", SYSTEMCTL)
    node.write("/run/nginx.pid", "1\n")
    step = {**wanted(nginx="1.0-1")["sections"][0]["steps"][0], "restart": ["nginx.service"]}
    assert ended(talk.apply(1, bundle(section("Server/web1", step), package_manager="dnf"))) == (
        "succeeded",
        "",
    )
    restarted = "try-restart -- nginx.service" in node.path("/control").read_text()
    assert restarted is not goes_over
    if goes_over:
        os.kill(int(node.path("/run/nginx.pid").read_text()), signal.SIGTERM)


# `state` is what dpkg has of nginx. As the real one, apt-get calls what waits for triggers or is half installed the newest
# version and ends well; `dpkg --configure -a` leaves what is half installed alone
DPKG_QUERY = r"""
case "$*" in
*source:Package*) printf 'nginx\tnginx\t%s\n' $(cat $root/state);;
*Version*) printf 'nginx\t1.0-2\t%s\n' $(cat $root/state);;
*) printf 'nginx\t%s\n' $(cat $root/state);;
esac
"""


APT_AND_DPKG = {
    "apt-get": "echo apt-get $* >> $root/calls; case $* in *--reinstall*) echo installed > $root/state;; esac",
    "apt-mark": "echo apt-mark $* >> $root/calls; [ $1 = auto ] || echo nginx",
    "dpkg": "echo dpkg $* >> $root/calls; grep -q half-installed $root/state || echo installed > $root/state",
    "dpkg-query": DPKG_QUERY,
}


@pytest.mark.parametrize("left", ["triggers-awaited", "half-configured", "unpacked", "half-installed"])
@pytest.mark.parametrize("kind", ["package", "upgrade"])
def test_what_dpkg_left_in_its_middle_is_finished_first(here: Here, kind: str, left: str) -> None:
    for name, text in APT_AND_DPKG.items():
        here.program_on_path(name, text)
    here.write("/state", left)
    upgrade = {"type": "upgrade", "key": "upgrade:nginx", "software": "nginx", "packages": {"nginx": "1.0-1"}}
    step = package("nginx") if kind == "package" else upgrade
    with here.talk() as talk:
        done = talk.apply(1, bundle(section("Server/web1", step), package_manager="apt"))
    assert ended(done) == ("succeeded", "")
    called = here.path("/calls").read_text()
    assert "--configure -a" in called
    assert ("apt-mark auto nginx" in called) is (left == "half-installed")


def test_repositories_that_do_not_answer_are_an_error_not_nothing_newer(node: Here, talk: Talk) -> None:
    node.write("/says", "Error: Failed to download metadata for repo 'appstream'\n")
    node.write("/code", "1")
    with pytest.raises(Refused, match="Failed to download metadata") as found:
        talk.ask("updates", packages=["nginx"])
    assert found.value.code == "packages"


def test_apt_is_told_to_say_when_lists_cannot_be_fetched(here: Here) -> None:
    here.program_on_path("apt-get", APT)
    here.program_on_path("dpkg-query", DPKG)
    here.write("/says", "")
    here.write("/calls", "")
    with here.talk() as talk:
        found = talk.ask("updates", packages=["nginx", "unknown"])
        assert found == {"packages": {"nginx": {"installed": "1.0-1", "available": "1.0-2"}}}
        assert "APT::Update::Error-Mode=any update" in here.path("/calls").read_text()
        here.write("/says", "E: Failed to fetch file:/srv/pool/Packages  File not found\n")
        with pytest.raises(Refused, match="Failed to fetch"):
            talk.ask("updates", packages=["nginx"])
