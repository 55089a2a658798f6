"""Module streams, with a dnf that keeps them, and refuses, as dnf 4 does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .building import bundle, package, section
from .talking import Here, Talk

# dnf(8): a stream is enabled in a file of its module, another one only after a reset
DNF = r"""
echo "$@" >> $root/calls
while [ "${1#-}" != "$1" ]; do shift; done
folder=$root/etc/dnf/modules.d
if [ "$1 $2" = "module reset" ]; then rm -f $folder/$3.module; exit; fi
if [ "$1" != module ]; then shift; for name; do echo $name >> $root/installed; done; exit; fi
module=${3%:*} stream=${3#*:}
if [ $module != nginx ]; then
    echo 'Error: Problems in request:' >&2; echo "missing groups or modules: $3" >&2; exit 1
fi
if [ -e $folder/$module.module ]; then
    echo 'Error: It is not possible to switch enabled streams of a module unless explicitly enabled via configuration option module_stream_switch.' >&2; exit 1
fi
printf '[%s]\nname=%s\nstream=%s\nprofiles=\nstate=enabled\n' $module $module $stream > $folder/$module.module
"""
RPM = '[ "$2" = --whatprovides ] && exit 1; shift 3; for name; do grep -qx "$name" $root/installed && printf "%s\\n" "$name"; done; exit 0'
FILE = "/etc/dnf/modules.d/nginx.module"


@pytest.fixture
def node(here: Here) -> Here:
    here.program_on_path("dnf", DNF)
    here.program_on_path("rpm", RPM)
    here.path("/etc/dnf/modules.d").mkdir(parents=True)
    here.write("/installed", "")
    here.write("/calls", "")
    return here


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def module(name: str, stream: str) -> dict[str, Any]:
    return {"type": "module", "key": f"module:{name}", "name": name, "stream": stream, "package": name}


def wanted(*steps: dict[str, Any]) -> dict[str, Any]:
    return bundle(section("Server/web1", *steps), package_manager="dnf")


def state(outcome: dict[str, Any]) -> str:
    found: str = outcome["sections"]["Server/web1"]["state"]
    return found


def calls(node: Here) -> list[str]:
    return [line.split(" ", 3)[-1] for line in node.path("/calls").read_text().splitlines()]


def test_a_stream_is_enabled_before_its_package_is_installed_and_then_left(node: Here, talk: Talk) -> None:
    made = wanted(module("nginx", "1.24"), package("nginx"))
    assert state(talk.apply(1, made)) == "succeeded"
    assert calls(node) == ["module enable nginx:1.24", "install nginx"]
    assert "stream=1.24" in node.path(FILE).read_text()
    assert state(talk.apply(2, made)) == "unchanged"
    # another stream is an upgrade of what is installed: that is a person's decision
    assert state(talk.apply(3, wanted(module("nginx", "1.26"), package("nginx")))) == "unchanged"
    assert "stream=1.24" in node.path(FILE).read_text()


def test_another_stream_that_nothing_is_installed_from_is_reset_first(node: Here, talk: Talk) -> None:
    node.write(FILE, "[nginx]\nname=nginx\nstream=1.20\nprofiles=\nstate=enabled\n")
    assert state(talk.apply(1, wanted(module("nginx", "1.24")))) == "succeeded"
    assert calls(node) == ["module reset nginx", "module enable nginx:1.24"]
    assert "stream=1.24" in node.path(FILE).read_text()


def test_a_repository_without_the_module_gives_the_plain_package(node: Here, talk: Talk) -> None:
    made = wanted(module("mariadb", "10.11"), package("mariadb"))
    assert state(talk.apply(1, made)) == "succeeded"
    assert node.path("/installed").read_text() == "mariadb\n"
    assert any("no repository has the module mariadb:10.11" in event.get("text", "") for event in talk.events)


def test_what_dnf_refuses_fails_the_section_with_its_words(node: Here, talk: Talk) -> None:
    node.program_on_path("dnf", "echo 'Error: Failed to download metadata for repo' >&2; exit 1")
    outcome = talk.apply(1, wanted(module("nginx", "1.24"), package("nginx")))
    assert state(outcome) == "failed"
    assert "Failed to download metadata" in outcome["sections"]["Server/web1"]["message"]
