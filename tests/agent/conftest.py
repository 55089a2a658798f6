"""A node that is a folder, and the pythons that this machine has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from reconciler.agent import places
from reconciler.nodes import agentzip

from .talking import Here

VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


def python_of(version: str) -> str | None:
    """An interpreter of this version: on PATH, or one that pyenv keeps."""
    found = shutil.which(f"python{version}")
    if found and "shims" not in found:
        return found
    roots = [Path(os.environ.get("PYENV_ROOT", "/nonexistent")), Path.home() / ".pyenv"]
    for root in roots:
        for path in sorted(root.glob(f"versions/{version}.*/bin/python3")):
            return str(path)
    return None


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program file, as it is installed on nodes."""
    path = tmp_path_factory.mktemp("program") / "panel-ssh-manager"
    path.write_bytes(agentzip.build().data)
    path.chmod(0o755)
    return path


@pytest.fixture
def here(tmp_path: Path, program: Path) -> Here:
    """A folder node, served by the Python of the tests."""
    return Here(tmp_path / "node", program, sys.executable)


@pytest.fixture
def oldest(tmp_path: Path, program: Path) -> Here:
    """A folder node, served by Python 3.6."""
    python = python_of("3.6")
    if python is None:
        pytest.skip("no Python 3.6 on this machine")
    return Here(tmp_path / "node", program, python)


@pytest.fixture
def inside(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """A folder node for tests that call the agent's modules in this process."""
    monkeypatch.setattr(places, "ROOT", str(here.root))
    places.make_state_folders()
    return here
