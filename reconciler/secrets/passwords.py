"""Passwords that the daemon makes for database users."""

from __future__ import annotations

import secrets
import string

from reconciler.kit.secret import Secret

LENGTH = 32
# no punctuation: a password passes through SQL, .env files and URLs, and 62^32 needs no help
_ALPHABET = string.ascii_letters + string.digits


def generate(length: int = LENGTH) -> Secret:
    """A random password of letters and digits with a capital, a small letter and a digit in it.

    `length` in characters; ValueError below 16.
    """
    if length < 16:
        raise ValueError("a generated password has at least 16 characters")
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        # password policies of database servers ask for all three; a retry keeps the choice uniform
        if (
            any(c.isupper() for c in text)
            and any(c.islower() for c in text)
            and any(c.isdigit() for c in text)
        ):
            return Secret(text)
