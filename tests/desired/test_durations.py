"""Lengths of time in manifests: read, written in one spelling, bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from reconciler.desired.kinds import MODELS
from reconciler.desired.kinds.common import Duration
from reconciler.desired.scalars import duration, seconds

DURATION: TypeAdapter[str] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("45s", 45),
        ("1m30s", 90),
        ("2h", 7200),
        ("1h0m0s", 3600),
        ("250ms", 0.25),
        ("1s500ms", 1.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text: str, length: float) -> None:
    assert seconds(text) == length
    assert DURATION.validate_python(text) == duration(length)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "1.5h",
        "-5s",
        "+5s",
        "1d",
        "30s1m",
        "1m1m",
        "5 m",
        "5m ",
        "5M",
        "5m\n",
        "٣s",
        "100000h",
        "1h\n",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        seconds(text)
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@pytest.mark.parametrize(
    ("text", "kept"), [("90m", "1h30m"), ("90s", "1m30s"), ("0h5m0s", "5m"), ("1000ms", "1s"), ("0m", "0s")]
)
def test_two_spellings_of_one_length_are_recorded_alike(text: str, kept: str) -> None:
    assert DURATION.validate_python(text) == kept


@given(st.integers(0, 10**9))
def test_what_is_written_is_read_as_the_same_length_and_written_so_again(milliseconds: int) -> None:
    text = duration(milliseconds / 1000)
    assert seconds(text) * 1000 == pytest.approx(milliseconds)
    assert DURATION.validate_python(text) == text


def test_a_default_is_written_as_it_is_recorded() -> None:
    """Else a manifest that says the default in words differs from one that leaves it out."""
    models = set(_models(list(MODELS.values())))
    assert len(models) > len(MODELS)
    for model in models:
        for name, field in model.model_fields.items():
            if isinstance(field.default, str):
                kind: Any = (
                    Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                )
                said: object = TypeAdapter(kind).validate_python(field.default)
                assert (model.__name__, name, said) == (model.__name__, name, field.default)


def _models(types: Iterable[object]) -> Iterator[type[BaseModel]]:
    for one in types:
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one
            yield from _models(field.annotation for field in one.model_fields.values())
        else:
            yield from _models(get_args(one))
