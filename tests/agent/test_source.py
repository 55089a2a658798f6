"""What the agent's source may need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "reconciler" / "agent").rglob("*.py"))


def test_the_source_needs_nothing_newer_than_python_3_6() -> None:
    vermin = Path(sys.executable).parent / "vermin"
    if not vermin.exists():
        pytest.skip("vermin is not installed beside this Python")
    done = subprocess.run(
        [
            vermin,
            "-t=3.6-",
            "--eval-annotations",
            "--backport",
            "typing",
            "--no-tips",
            "--violations",
            SOURCES[0].parent,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_module_imports_the_standard_library_and_its_neighbours_only(source: Path) -> None:
    for found in ast.walk(ast.parse(source.read_text())):
        if isinstance(found, ast.Import):
            for name in found.names:
                assert name.name.partition(".")[0] in sys.stdlib_module_names
        elif isinstance(found, ast.ImportFrom) and found.level == 0:
            assert (found.module or "").partition(".")[0] in sys.stdlib_module_names
            assert found.module != "__future__", "annotations of 3.7 are not understood by 3.6"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_modules_are_imported_at_the_start(source: Path) -> None:
    """The zip may be replaced while a runner works; a late import would read the new file with the old directory."""
    for function in ast.walk(ast.parse(source.read_text())):
        if isinstance(function, ast.FunctionDef):
            late = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom) and node.level]
            assert late == []
