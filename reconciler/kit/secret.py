"""A text that must not be shown: its repr, str and JSON forms are three dots."""

from __future__ import annotations

MASK = "•••"


class Secret:
    """Wraps a secret text. Only `reveal()` gives it; everything that prints or compares by accident sees `•••`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself; call it at the last moment and keep no copy."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("secret", self._text))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret cannot be pickled")
