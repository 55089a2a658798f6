"""The agent's program file: the same bytes every time, and one file for every Python."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reconciler.errors import SettingsFault
from reconciler.nodes import agentzip

MAIN = "import sys\n\ndef main():\n    print(sys.argv[1:], sys.flags.isolated, sys.flags.no_site)\n    return 7\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    (folder / "steps").mkdir(parents=True)
    for name in ("__init__.py", "steps/__init__.py", "steps/file.py"):
        (folder / name).write_text("")
    (folder / "main.py").write_text(MAIN)
    return folder


def test_equal_sources_give_equal_bytes_whatever_their_dates(sources: Path) -> None:
    first = agentzip.pack(sources)
    for path in sources.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__" / "main.pyc").write_bytes(b"x")
    second = agentzip.pack(sources)
    assert second.data == first.data
    assert second.sha256 == first.sha256 == hashlib.sha256(first.data).hexdigest()


def test_a_changed_source_gives_another_version(sources: Path) -> None:
    first = agentzip.pack(sources)
    (sources / "steps" / "file.py").write_text("# changed\n")
    assert agentzip.pack(sources).sha256 != first.sha256


def test_the_file_runs_as_a_program_and_as_an_archive(sources: Path, tmp_path: Path) -> None:
    program = tmp_path / "panel-ssh-manager"
    program.write_bytes(agentzip.pack(sources).data)
    program.chmod(0o755)
    ran = subprocess.run([program, "serve"], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (7, "['serve'] 1 1\n")
    ran = subprocess.run(
        [sys.executable, program, "x"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (7, "['x'] 0 0\n")


@pytest.mark.parametrize("minor", range(6, 15))
def test_every_python_that_is_here_runs_it(sources: Path, tmp_path: Path, minor: int) -> None:
    python = shutil.which(f"python3.{minor}")
    if (
        python is None
        or subprocess.run([python, "-V"], capture_output=True, timeout=60, check=False).returncode
    ):
        pytest.skip(f"python3.{minor} missing")
    program = tmp_path / "panel-ssh-manager"
    program.write_bytes(agentzip.pack(sources).data)
    ran = subprocess.run(
        [python, "-I", "-S", program, "x"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (7, "['x'] 1 1\n")


def test_python_at_the_place_of_enterprise_linux_8_is_found(sources: Path, tmp_path: Path) -> None:
    # the same lines, with the two paths moved to places that the test owns
    data = agentzip.pack(sources).data
    text = data.replace(b"/usr/bin/python3", b"/nowhere/pyth3", 1).replace(
        b"/usr/libexec/platform-python", str(tmp_path / "python").encode(), 1
    )
    (tmp_path / "python").symlink_to(sys.executable)
    program = tmp_path / "program"
    program.write_bytes(text)
    program.chmod(0o755)
    ran = subprocess.run([program, "a b", "c"], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (7, "['a b', 'c'] 1 1\n")


def test_without_python_it_says_so(sources: Path, tmp_path: Path) -> None:
    data = agentzip.pack(sources).data
    program = tmp_path / "program"
    program.write_bytes(data.replace(b"/usr/", b"/xxx/"))
    program.chmod(0o755)
    ran = subprocess.run([program, "serve"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 127
    assert "platform-python is here" in ran.stderr


def test_the_installations_own_agent_is_packed_whole() -> None:
    program = agentzip.build()
    with zipfile.ZipFile(io.BytesIO(program.data)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names == sorted(names)
    assert {"__main__.py", "panel_agent/__init__.py", "panel_agent/main.py"} <= set(names)
    assert agentzip.build() is program
    assert repr(program.data[:20]) not in repr(program)


def test_missing_sources_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="agent's sources"):
        agentzip.pack(tmp_path)
