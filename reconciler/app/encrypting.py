"""Encrypting values for manifests: for the daemon of a state directory, and for whoever else is to read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import UsageFault
from reconciler.kit.secret import Secret
from reconciler.secrets import age

MAX_BYTES = 16 * 1024
"""Of a value: enough for a certificate's key; a manifest is no place for files."""


def recipient(state: Path) -> str:
    """The public key of the state directory; made now in one from before there were such keys. SettingsFault, StoreFault."""
    from reconciler.store import identity, open_state  # noqa: PLC0415 - SQLAlchemy is slow to import

    with open_state(state) as store:
        known = store.read(identity.age)
        return (known or store.write(identity.ensure_age)).public


def recipients(state: Path, others: Sequence[str]) -> list[str]:
    """The state directory's key and `others`. On a machine without one only `others`, of which there must be some then."""
    if others and not os.path.lexists(state):
        return list(others)
    return [recipient(state), *others]


def value(data: bytes) -> Secret:
    """The value in what was read. UsageFault when it is no text or too long.

    The line end behind a single line is not part of it, since every editor and `echo` puts it there.
    """
    if len(data) > MAX_BYTES:
        raise UsageFault(
            f"the value has more than {MAX_BYTES} bytes", hint="a manifest is no place for files"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageFault("the value is not UTF-8 text", hint="encode it, with base64 for example") from None
    line = text.removesuffix("\n").removesuffix("\r")
    text = text if "\n" in line else line
    if not text:
        raise UsageFault("there is no value to encrypt", hint="give it on standard input")
    return Secret(text)


def encrypted(plain: Secret, keys: Sequence[str]) -> str:
    """The armored text for a manifest. UsageFault when one of `keys` is no public key."""
    try:
        return age.encrypt(plain, keys)
    except ValueError as fault:
        raise UsageFault(
            str(fault), hint="`reconciler secrets recipient` prints the daemon's public key"
        ) from None
