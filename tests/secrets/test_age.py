"""What pyrage says becomes ours: nothing of a value or key in a message, nothing but ValueError for any input."""

from __future__ import annotations

import contextlib
import random

import pyrage  # type: ignore[import-untyped]
import pytest

from reconciler.kit.secret import Secret
from reconciler.secrets import age
from reconciler.secrets.age import AgeIdentity

OURS = AgeIdentity.generate()
THEIRS = AgeIdentity.generate()
VALUE = Secret("canary-grüße-1")


def test_what_is_encrypted_for_an_identity_it_opens() -> None:
    armored = age.encrypt(VALUE, [OURS.public])
    assert VALUE.reveal() not in armored
    assert OURS.open(armored) == VALUE


def test_each_of_several_recipients_opens_it() -> None:
    armored = age.encrypt(VALUE, [OURS.public, THEIRS.public, OURS.public])
    assert OURS.open(armored) == THEIRS.open(armored) == VALUE


def test_an_identity_comes_back_from_its_text() -> None:
    again = AgeIdentity(OURS.text)
    assert again.public == OURS.public
    assert again.open(age.encrypt(VALUE, [OURS.public])) == VALUE
    assert OURS.text.reveal() not in repr(OURS)


def test_what_is_for_others_says_whose_key_was_tried() -> None:
    with pytest.raises(ValueError, match=f"not encrypted for this daemon, whose public key is {OURS.public}"):
        OURS.open(age.encrypt(VALUE, [THEIRS.public]))


def test_bytes_that_are_no_text_are_refused() -> None:
    armored = pyrage.encrypt(b"\xff\xfe", [pyrage.x25519.Recipient.from_str(OURS.public)], armored=True)
    with pytest.raises(ValueError, match="not hold UTF-8"):
        OURS.open(armored.decode())


@pytest.mark.parametrize("text", ["", "hunter2", "AGE-SECRET-KEY-1HUNTER2"])
def test_what_is_no_identity_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="not a private key of age") as caught:
        AgeIdentity(Secret(text))
    assert "unter2" not in str(caught.value).lower()


@pytest.mark.parametrize("text", ["", "age1", "age1qqqq", "ssh-ed25519 AAAA", "ssh-rsa", "x" * 5000])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no public key") as caught:
        age.encrypt(VALUE, [text])
    assert len(str(caught.value)) < 200


def test_a_private_key_in_place_of_a_public_one_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="that is a private key") as caught:
        age.encrypt(VALUE, [OURS.text.reveal()])
    assert OURS.text.reveal()[20:] not in str(caught.value)


def test_nobody_is_no_recipient() -> None:
    with pytest.raises(ValueError, match="nobody"):
        age.encrypt(VALUE, [])


@pytest.mark.parametrize("seed", range(4))
def test_a_file_altered_anywhere_gives_no_other_fault_and_no_other_text(seed: int) -> None:
    chance = random.Random(seed)
    armored = age.encrypt(VALUE, [OURS.public])
    for _ in range(150):
        letters = list(armored)
        for _ in range(chance.randint(1, 3)):
            match chance.randrange(3):
                case 0:
                    letters[chance.randrange(len(letters))] = chr(chance.randrange(1, 0x250))
                case 1:
                    del letters[chance.randrange(len(letters))]
                case _:
                    letters.insert(chance.randrange(len(letters)), chance.choice("\n\rA-= "))
        with contextlib.suppress(ValueError):
            assert OURS.open("".join(letters)) == VALUE
