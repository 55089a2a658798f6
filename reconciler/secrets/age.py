"""age's keys and files (https://c2sp.org/age): the daemon's identity, encrypting for public keys, opening.

The only module that speaks pyrage. Files are small and their headers are judged before (`reconciler.desired.armor`); no
passphrase is ever tried, so that nobody can make the daemon compute scrypt.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyrage  # type: ignore[import-untyped]

from reconciler.kit.secret import Secret

_NOT_OURS = "No matching keys found"


class AgeIdentity:
    """A private X25519 key. `public` is what others encrypt for, `age1…`."""

    __slots__ = ("_key", "public")

    def __init__(self, text: Secret) -> None:
        """From its text form, `AGE-SECRET-KEY-1…`. ValueError, which does not quote it, when it is none."""
        try:
            self._key = pyrage.x25519.Identity.from_str(text.reveal())
        except pyrage.IdentityError:
            raise ValueError("not a private key of age") from None
        self.public = str(self._key.to_public())

    @classmethod
    def generate(cls) -> AgeIdentity:
        """A new one."""
        return cls(Secret(str(pyrage.x25519.Identity.generate())))

    @property
    def text(self) -> Secret:
        """Its text form."""
        return Secret(str(self._key))

    def __repr__(self) -> str:
        return f"AgeIdentity({self.public})"

    def open(self, armored: str) -> Secret:
        """The text in an armored file. ValueError, worded to follow a field's name, when it cannot be opened."""
        try:
            plain = pyrage.decrypt(armored.encode("utf-8"), [self._key])
        except pyrage.DecryptError as fault:
            if _NOT_OURS in str(fault):
                raise ValueError(
                    f"is not encrypted for this daemon, whose public key is {self.public}"
                ) from None
            raise ValueError("is damaged: what age encrypted was altered or cut off") from None
        try:
            return Secret(plain.decode("utf-8"))
        except UnicodeDecodeError:
            raise ValueError("opens, but does not hold UTF-8 text") from None


def encrypt(plain: Secret, recipients: Sequence[str]) -> str:
    """The armored file that each of `recipients` (`age1…`, or a line of an SSH public key) can open. ValueError."""
    if not recipients:
        raise ValueError("there is nobody to encrypt for")
    keys = [_recipient(text) for text in dict.fromkeys(recipients)]
    try:
        armored: bytes = pyrage.encrypt(plain.reveal().encode("utf-8"), keys, armored=True)
    except pyrage.EncryptError as fault:
        raise ValueError(f"age cannot encrypt this: {fault}") from None
    return armored.decode("ascii")


def _recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    if text.startswith("AGE-SECRET-KEY-"):
        raise ValueError("that is a private key: give the public one, which begins with age1")
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise ValueError(f"{text[:80]!r} is no public key of age (age1…) or SSH (ssh-ed25519 …)") from None
