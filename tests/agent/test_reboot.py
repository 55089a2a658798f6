"""Whether a node has to be rebooted, from the files that it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.agent import places, reboot

RUNNING = os.uname().release


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "ROOT", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "boot").mkdir()
    return tmp_path


def install(node: Path, release: str) -> Path:
    folder = node / "lib/modules" / release
    folder.mkdir(parents=True)
    (folder / "vmlinuz").touch()
    return folder


def test_packages_of_debian_ask_by_name(node: Path) -> None:
    assert reboot.needed() == {"needed": False, "why": "", "packages": []}
    (node / "run/reboot-required").touch()
    (node / "run/reboot-required.pkgs").write_text("linux-image-amd64\ndbus\ndbus\n")
    told = reboot.needed()
    assert (told["needed"], told["packages"]) == (True, ["dbus", "linux-image-amd64"])


def test_a_newer_kernel_is_installed_than_the_one_that_runs(node: Path) -> None:
    plain, _, variant = RUNNING.partition("+")
    newer = "999" + plain + ("+" + variant if variant else "")
    install(node, RUNNING)
    install(node, "0.1" + ("+" + variant if variant else ""))
    assert not reboot.needed()["needed"]
    # modules without a kernel are what a removed package left behind; another variant is another matter
    (node / "lib/modules" / newer).mkdir()
    install(node, newer + "+other")
    assert not reboot.needed()["needed"]
    (node / "boot" / ("vmlinuz-" + newer)).touch()
    assert reboot.needed()["why"] == f"kernel {newer} is installed, {RUNNING} runs"


def test_a_container_has_no_kernel_to_wait_for(node: Path) -> None:
    install(node, "999.0")
    (node / "run/reboot-required").touch()
    (node / "run/systemd").mkdir()
    (node / "run/systemd/container").touch()
    assert not reboot.needed()["needed"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("5.14.0-70.el9.x86_64", "5.14.0-427.el9.x86_64"),
        ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64"),
        ("6.1.0-9-amd64", "6.1.0-18-amd64"),
    ],
)
def test_kernels_are_ordered_by_their_numbers(older: str, newer: str) -> None:
    assert reboot.version(older) < reboot.version(newer)
