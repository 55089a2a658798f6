"""Known secrets are masked in whatever form they come out; the rest of a text stays as it is."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.kit.secret import MASK, Secret
from reconciler.secrets import Redactor

SECRET = 'p/ss "wörd"+&=\\end'
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQyNTUxOQAAACDcanary00\n-----END OPENSSH PRIVATE KEY-----\n"
RAW = SECRET.encode()


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode(),
    ],
)
def test_a_secret_is_masked_in_each_form(shown: str) -> None:
    redact = Redactor([Secret(SECRET)])
    text = redact(f"DB_PASSWORD={shown} and more")
    assert text.startswith(f"DB_PASSWORD={MASK}")
    assert text.endswith(" and more")
    assert shown.rstrip("=") not in text
    assert redact(f"x={shown};".encode()) == redact(f"x={shown};").encode()


@pytest.mark.parametrize("user", ["", "a", "ab", "abc", "user:", "longer-user:"])
def test_a_secret_within_base64_is_masked_at_any_alignment(user: str) -> None:
    header = base64.b64encode(f"{user}{SECRET}@host".encode()).decode()
    redacted = Redactor([SECRET])(f"Authorization: Basic {header}")
    assert MASK in redacted
    left = redacted.removeprefix("Authorization: Basic ").split(MASK)
    for piece in left:
        for shift in range(4):
            clean = piece[shift:] + "=" * (-len(piece[shift:]) % 4)
            try:
                decoded = base64.b64decode(clean)
            except ValueError:
                continue
            assert b'ss "w' not in decoded


def test_every_line_of_a_private_key_is_masked() -> None:
    redact = Redactor([Secret(PEM)])
    assert redact(PEM) == MASK
    assert redact("  b3BlbnNzaC1rZXktdjEAAAAA\n  QyNTUxOQAAACDcanary00") == f"  {MASK}\n  {MASK}"
    assert redact("-----BEGIN OPENSSH PRIVATE KEY-----") == "-----BEGIN OPENSSH PRIVATE KEY-----"
    assert "canary" not in redact(json.dumps({"key": PEM}))


def test_the_longer_of_two_secrets_wins() -> None:
    assert Redactor(["secret", "secret-and-more"])("a secret-and-more b secret c") == f"a {MASK} b {MASK} c"


def test_a_text_without_secrets_is_untouched() -> None:
    redact = Redactor([SECRET])
    assert redact("nothing here") == "nothing here"
    assert redact(b"\xff\x00 bytes") == b"\xff\x00 bytes"
    assert redact(b"\xff" + RAW + b"\x00") == b"\xff" + MASK.encode() + b"\x00"
    assert Redactor()("anything") == "anything"


def test_short_and_empty_texts_are_not_taken_for_secrets() -> None:
    assert Redactor(["", "   ", "abc", Secret("no")])("abc no  yes") == "abc no  yes"
    assert Redactor(["abcd"])("abcd") == MASK


def test_secrets_can_be_added_and_the_redactor_shows_none() -> None:
    redact = Redactor()
    redact.add(Secret("canary-one"), "canary-two")
    assert redact("canary-one canary-two") == f"{MASK} {MASK}"
    assert "canary" not in repr(redact)


def test_characters_of_regular_expressions_are_ordinary() -> None:
    assert Redactor(["a.c*(d"])("a.c*(d abcd") == f"{MASK} abcd"


@given(
    secrets=st.lists(st.text("ab", min_size=4, max_size=7), min_size=1, max_size=3),
    pieces=st.lists(st.text("ab c", max_size=9), max_size=12),
)
def test_a_stream_is_redacted_as_if_it_came_at_once(secrets: list[str], pieces: list[str]) -> None:
    redact = Redactor(secrets)
    stream = redact.stream()
    streamed = "".join([*(stream.feed(piece) for piece in pieces), stream.flush()])
    assert streamed == redact("".join(pieces))
    assert stream.flush() == ""


def test_a_secret_cut_in_two_by_the_stream_is_masked() -> None:
    stream = Redactor([Secret(PEM), "canary-password"]).stream()
    text = "".join([stream.feed("it is canary-pa"), stream.feed("ssword, really"), stream.flush()])
    assert text == f"it is {MASK}, really"


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.text(), st.text())
def test_no_secret_survives_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret])(before + secret + after).replace(MASK, "\0" * 9) or "\0" in secret
