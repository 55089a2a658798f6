"""Replaces known secrets in anything that leaves: log lines, command output, error texts.

It is the last net. Secrets stay out of texts in the first place by being `Secret`; this catches what a program on a
node echoes back. A secret is found as it is, inside base64 (at any alignment, so also in `user:password`), percent-
encoded and escaped for JSON or by repr(); of a text with several lines, such as a private key, also each longer line.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import overload
from urllib.parse import quote, quote_plus

from reconciler.kit.secret import MASK, Secret

SHORTEST = 4
"""Secrets below this length are not looked for: they would mask ordinary words and protect nothing."""

_LINE = 16  # a shorter line of a longer secret may be an ordinary word
_ENCODED = 8  # a shorter piece of base64 occurs by chance


class Redactor:
    """Replaces every known secret by `•••`. Calling it with `str` or `bytes` gives the same type back."""

    def __init__(self, secrets: Iterable[Secret | str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self.add(*secrets)

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def add(self, *secrets: Secret | str) -> None:
        """Makes further secrets known; those shorter than `SHORTEST` characters are ignored."""
        forms = set(self._forms)
        for secret in secrets:
            text = secret.reveal() if isinstance(secret, Secret) else secret
            if len(text.strip()) >= SHORTEST:
                forms.update(_forms_of(text))
        # longest first: a form that contains another one must win. One assignment, so readers in threads see all or none
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    @overload
    def __call__(self, text: str) -> str: ...
    @overload
    def __call__(self, text: bytes) -> bytes: ...
    def __call__(self, text: str | bytes) -> str | bytes:
        """`text` with every known secret replaced."""
        if isinstance(text, bytes):
            found = [
                form for form in (f.encode("utf-8", "surrogatepass") for f in self._forms) if form in text
            ]
            return re.sub(b"|".join(map(re.escape, found)), MASK.encode(), text) if found else text
        # a substring search per form is far cheaper than one alternation over thousands of them
        present = [form for form in self._forms if form in text]
        return re.sub("|".join(map(re.escape, present)), MASK, text) if present else text

    def stream(self) -> Stream:
        """For a text that arrives in pieces, where a secret may straddle two of them."""
        return Stream(self._forms)


class Stream:
    """Redacts a stream. What could be the beginning of a secret is held back until more comes or `flush` is called."""

    def __init__(self, forms: tuple[str, ...]) -> None:
        self._forms = forms
        self._held = ""
        self._keep = max((len(form) for form in forms), default=1) - 1

    def feed(self, text: str) -> str:
        """The part of the stream that is certain by now, redacted."""
        text = self._held + text
        cut = max(0, len(text) - self._keep)
        # a match that begins before the cut lies wholly in `text`, as it is at most _keep + 1 long
        for start, end in self._matches(text):
            if start < cut < end:
                cut = end
        self._held = text[cut:]
        return self._masked(text[:cut])

    def flush(self) -> str:
        """The rest, redacted; the stream is empty afterwards."""
        rest, self._held = self._held, ""
        return self._masked(rest)

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        present = [form for form in self._forms if form in text]
        if present:
            yield from (match.span() for match in re.finditer("|".join(map(re.escape, present)), text))

    def _masked(self, text: str) -> str:
        end = 0
        pieces = []
        for start, stop in self._matches(text):
            pieces += [text[end:start], MASK]
            end = stop
        return "".join([*pieces, text[end:]])


def _forms_of(text: str) -> Iterator[str]:
    yield text
    yield from (quote(text, safe=""), quote(text), quote_plus(text))
    yield repr(text)[1:-1]  # how most exceptions quote what they refuse
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield from _base64_forms(text.encode("utf-8", "surrogatepass"))
    lines = text.splitlines()
    if len(lines) > 1:
        yield text.strip()
        # the armour lines of a PEM file are the same in all of them
        yield from (
            line.strip() for line in lines if len(line.strip()) >= _LINE and not line.startswith("-----")
        )


def _base64_forms(data: bytes) -> Iterator[str]:
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        yield alphabet(data).rstrip(b"=").decode("ascii")
        for shift in (0, 1, 2):
            # the characters that depend on `data` alone, when `shift` other bytes come before it
            inner = alphabet(b"\0" * shift + data)[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6]
            if len(inner) >= _ENCODED:
                yield inner.decode("ascii")
