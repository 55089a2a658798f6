"""The units that are shipped: systemd accepts them, and they keep what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit by `Section.Name`."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in (PACKAGING / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[f"{section}.{key}"].append(value)
    return found


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    program = shutil.which("true")
    for unit in ("reconciler.service", "reconciler.socket"):
        # verify wants the program to be there
        text = (PACKAGING / unit).read_text().replace("/usr/bin/reconciler", str(program))
        (tmp_path / unit).write_text(text)
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            tmp_path / "reconciler.service",
            tmp_path / "reconciler.socket",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_is_confined_by_systemds_own_measure() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", PACKAGING / "reconciler.service"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    if level is None:
        pytest.skip("this systemd-analyze cannot judge a unit offline")
    assert float(level[1]) < 2.0, done.stdout


def test_the_service_tells_when_it_is_ready_and_is_watched() -> None:
    service = settings("reconciler.service")
    assert service["Service.Type"] == ["notify"]
    assert service["Service.NotifyAccess"] == ["main"]
    assert service["Service.WatchdogSec"] == ["60s"]
    assert service["Service.ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["Service.LoadCredential"] == ["app_key:reconciler.app_key"]


def test_the_daemon_may_use_what_its_work_needs() -> None:
    service = settings("reconciler.service")
    families = service["Service.RestrictAddressFamilies"][0].split()
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} == set(families)
    assert service["Service.ProtectSystem"] == ["strict"]
    assert service["Service.Environment"] == ["RECONCILER_STATE=/var/lib/reconciler"]
    assert service["Service.StateDirectory"] == ["reconciler"]
    assert service["Service.RuntimeDirectory"] == ["reconciler"]


def test_the_socket_has_the_name_that_the_daemon_looks_for() -> None:
    assert settings("reconciler.socket")["Socket.FileDescriptorName"] == ["http"]
    assert settings("reconciler.socket")["Socket.Service"] == ["reconciler.service"]
