"""The box: what was sealed opens in its place, under its key, unaltered; nothing else does."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import WrongKey
from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.secrets.box import Box, version_of

ONE, TWO = b"1" * 32, b"2" * 32
PLACE = {"table": "databases", "row_id": "01AAAAAAAAAAAAAAAAAAAAAAAA", "column": "password"}


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    box = Box([ONE])
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    sealed = box.seal(text, **PLACE)
    assert box.open(sealed, **PLACE) == Secret(text)
    assert box.seal(Secret(text), **PLACE) != sealed


def test_the_form_names_the_key_version() -> None:
    parts = Box([ONE, TWO]).seal("x", **PLACE).split(".")
    assert parts[:2] == ["v1", version_of(ONE)]
    assert len(parts) == 4
    assert len(parts[2]) == 16


@pytest.mark.parametrize(
    "other",
    [{"table": "ssh_keys"}, {"row_id": ids.new()}, {"column": "private_key"}],
    ids=lambda other: next(iter(other)),
)
def test_it_opens_nowhere_else(other: dict[str, str]) -> None:
    box = Box([ONE])
    sealed = box.seal("canary", **PLACE)
    with pytest.raises(WrongKey, match="altered or moved") as caught:
        box.open(sealed, **{**PLACE, **other})
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_no_single_changed_character_goes_unnoticed() -> None:
    box = Box([ONE, TWO])
    sealed = box.seal("canary", **PLACE)
    for at, char in enumerate(sealed):
        # a last character of base64 has bits that do not count; another letter with other high bits always does
        altered = sealed[:at] + ("A" if char not in "ABCD" else "z") + sealed[at + 1 :]
        with pytest.raises(WrongKey):
            box.open(altered, **PLACE)


@pytest.mark.parametrize(
    "text", ["", "plain text", "v1.a.b", "v2.a.b.c", "v1." + version_of(ONE) + ".!.!", "v1....."]
)
def test_what_is_no_sealed_value_is_said_so(text: str) -> None:
    with pytest.raises(WrongKey) as caught:
        Box([ONE]).open(text, **PLACE)
    assert PLACE["row_id"] in caught.value.message


def test_the_first_key_seals_and_each_opens() -> None:
    old, both = Box([ONE]), Box([TWO, ONE])
    sealed = old.seal("x", **PLACE)
    assert both.open(sealed, **PLACE) == Secret("x")
    assert not both.current(sealed)
    again = both.seal("x", **PLACE)
    assert both.current(again)
    with pytest.raises(
        WrongKey, match=f"was sealed with key {version_of(TWO)}, but APP_KEY holds only {version_of(ONE)}"
    ):
        old.open(again, **PLACE)


def test_a_value_passed_off_under_another_key_version_does_not_open() -> None:
    box = Box([ONE, TWO])
    sealed = box.seal("x", **PLACE)
    with pytest.raises(WrongKey, match="altered"):
        box.open(sealed.replace(version_of(ONE), version_of(TWO)), **PLACE)


def test_a_place_is_spelt_in_one_way_only() -> None:
    for wrong in ({"row_id": "a/b"}, {"table": ""}, {"column": "a b"}):
        with pytest.raises(ValueError, match="not a place"):
            Box([ONE]).seal("x", **{**PLACE, **wrong})


@pytest.mark.parametrize("keys", [[], [b"short"], [ONE, b"3" * 33]])
def test_a_box_needs_keys_of_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Box(keys)


def test_the_repr_tells_nothing() -> None:
    assert repr(Box([ONE, TWO])) == f"Box(version='{version_of(ONE)}', keys=2)"
