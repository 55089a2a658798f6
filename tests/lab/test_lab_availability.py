"""A machine that cannot run the lab hears why; images have keys that follow their recipes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lab as lab_package
from lab import Lab, LabUnavailable, why_not
from lab.images.cache import HERE, Artefact, build_all
from lab.images.registry import MACHINE, NAMES, ImageMissing, artefacts, find, missing

REPOSITORY = Path(lab_package.__file__).parent.parent


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not()[0].startswith("not root: ")
    with pytest.raises(LabUnavailable, match="not root"):
        Lab()


def test_missing_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "systemd-nspawn missing: install systemd-container" in why_not()


@pytest.fixture
def readable_copy() -> Iterator[Path]:
    """A copy of the lab where every user can read it, which the checkout and pytest's folders may not be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(REPOSITORY / "lab", folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_doctor_as_another_user(readable_copy: Path) -> None:
    python = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-B"]
    for command, says in (("doctor", "not root"), ("images", "not root"), ("sweep", "not root")):
        done = subprocess.run(
            [*python, "-m", "lab", command],
            cwd=readable_copy,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_images_that_are_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECONCILER_LAB_CACHE", str(tmp_path))
    assert missing() == [*NAMES, MACHINE]
    with pytest.raises(ImageMissing, match="python3 -m lab images"):
        find("el9")
    done = subprocess.run(
        [sys.executable, "-m", "lab", "doctor"],
        cwd=REPOSITORY,
        env={**os.environ, "RECONCILER_LAB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "images not built: " in done.stderr


def test_recipes_exist() -> None:
    for artefact in artefacts():
        for step in artefact.closure():
            assert all((HERE / entry).exists() for entry in step.recipe), step.name


def test_builds_once_whole_and_prunes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECONCILER_LAB_CACHE", str(tmp_path))
    built: list[str] = []
    obstacles = ["no luck"]

    def below(out: Path, inputs: Mapping[str, Path]) -> None:
        built.append("below")
        (out / "file").write_text("below")

    def above(out: Path, inputs: Mapping[str, Path]) -> None:
        built.append("above")
        assert (inputs["below"] / "file").read_text() == "below"
        if obstacles:
            raise RuntimeError(obstacles.pop())

    first = Artefact("below", below, ("cache.py",))
    second = Artefact("above", above, ("cache.py",), (first,))
    said: list[str] = []
    with pytest.raises(RuntimeError, match="no luck"):
        build_all([second], said.append)
    assert first.ready
    assert not second.tree.exists()
    assert list((tmp_path / "above").iterdir()) == []
    old = tmp_path / "above" / "0123456789abcdef"
    (old / "tree").mkdir(parents=True)
    build_all([second], said.append)
    build_all([second], said.append)
    assert built == ["below", "above", "above"]
    assert second.ready
    assert not old.exists()
    changed = Artefact("above", above, ("cache.py", "registry.py"), (first,))
    assert changed.key() != second.key()


@pytest.mark.parametrize(("ci", "outcome"), [("false", "1 skipped"), ("true", "1 error")])
def test_fixtures_without_images(tmp_path: Path, ci: str, outcome: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("without root the fixtures give another reason")
    test = "tests/lab/test_lab_nodes.py::test_is_freshly_installed[el9]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=REPOSITORY,
        env={**os.environ, "RECONCILER_LAB_CACHE": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome in done.stdout
    assert "image el9 is not built: run `python3 -m lab images`" in done.stdout


def test_lab_tests_are_marked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "lab", "tests/lab"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "test_boots_into_a_whole_system[el9]" in done.stdout
    assert "test_boots_into_a_whole_system[debian12]" in done.stdout
    assert "test_recipes_exist" not in done.stdout
