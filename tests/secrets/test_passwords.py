"""Generated passwords."""

from __future__ import annotations

import pytest

from reconciler.kit.secret import MASK
from reconciler.secrets import passwords


def test_a_password_has_32_letters_and_digits_of_each_sort_and_is_new_each_time() -> None:
    made = [passwords.generate() for _ in range(200)]
    assert len(set(made)) == 200
    for secret in made:
        text = secret.reveal()
        assert len(text) == 32
        assert text.isascii()
        assert text.isalnum()
        assert any(c.isupper() for c in text)
        assert any(c.islower() for c in text)
        assert any(c.isdigit() for c in text)
    assert repr(made[0]) == MASK


def test_a_short_password_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        passwords.generate(15)
