"""Whether a node is what its manifest says, over all systems that there are."""

from __future__ import annotations

import pytest

from reconciler.platforms import NAMES, for_os, matches

IDS = {"alma": "almalinux", "rocky": "rocky", "debian": "debian"}


def says(name: str) -> tuple[str, str]:
    """What the os-release of a system has, with a minor version where the system has such."""
    family, major = name.split("_")
    return IDS[family], major if family == "debian" else f"{major}.4"


@pytest.mark.parametrize("declared", NAMES)
def test_a_system_fits_its_own_word_and_no_other(declared: str) -> None:
    for real in NAMES:
        said = matches(for_os(declared), *says(real))
        assert bool(said) == (real != declared), (real, said)
        if said:
            assert f"says {IDS[declared.split('_')[0]]} {declared.split('_')[1]}," in said
            assert " ".join(says(real)) in said


@pytest.mark.parametrize(
    "real", [("centos", "9"), ("ubuntu", "24.04"), ("", ""), ("almalinux", ""), ("almalinux", "90.1")]
)
def test_a_system_of_no_word_fits_none(real: tuple[str, str]) -> None:
    assert all(matches(for_os(name), *real) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_only_where_there_are_modules_streams_are_named(name: str) -> None:
    platform = for_os(name)
    assert bool(platform.streams) == (platform.name in ("el8", "el9"))
