"""Every folder of tests/cases/manifests: the problems of its input, in words, and the fleet that is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import CASES, fleet_text, load_case, problems_text

ALL = sorted(case for case in CASES.iterdir() if case.is_dir())


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_tree_gives_the_problems_and_the_fleet_that_are_written_beside_it(case: Path) -> None:
    loaded = load_case(case)
    assert problems_text(loaded) == (case / "problems.txt").read_text(encoding="utf-8")
    assert fleet_text(loaded) == (case / "fleet.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_no_resource_is_sound_and_broken_at_once_and_every_problem_has_its_place(case: Path) -> None:
    loaded = load_case(case)
    assert not loaded.fleet.broken & loaded.fleet.entries.keys()
    for problem in loaded.problems:
        lines = (case / "input" / problem.source.path).read_bytes().split(b"\n")
        assert 1 <= problem.source.line <= len(lines)
        assert problem.source.column >= 1


def test_the_secret_words_of_the_cases_are_in_no_message() -> None:
    text = problems_text(load_case(CASES / "values-of-env-are-never-repeated"))
    assert "hunter2" not in text
    assert "31337" not in text
    assert "007" not in text


def test_a_private_key_is_in_no_message() -> None:
    assert "c2VjcmV0" not in problems_text(load_case(CASES / "private-key-in-git"))
