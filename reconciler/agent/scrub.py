"""Keeps secrets out of texts: what has been used as a secret in this process is replaced wherever it would appear."""

import re
import threading
from typing import Set

MASK = "\u2022\u2022\u2022"
_SHORTEST = 6


class Scrubber:
    """Knows the secrets of one apply. Thread-safe, since output is read by threads."""

    def __init__(self) -> None:
        self._secrets: Set[str] = set()
        self._lock = threading.Lock()

    def learn(self, secret: str) -> None:
        """A text that must not be shown; very short ones are left out, they would mask everything."""
        if len(secret) >= _SHORTEST:
            with self._lock:
                self._secrets.add(secret)

    def learn_body(self, body: bytes) -> None:
        """The values in a secret file: each line and what follows its first `=` or `:`, without quotes."""
        for line in body.decode("utf-8", "replace").splitlines():
            text = line.strip()
            if text.startswith("-----"):
                continue
            self.learn(text)
            parts = re.split("[=:]", text, maxsplit=1)
            # not also what follows a later colon: of `URL="https://host"` that is `//host`, which is in every address
            if len(parts) > 1:
                self.learn(parts[1].strip().strip("'\";").strip())

    def clean(self, text: str) -> str:
        """The text with every known secret masked, the longest first."""
        with self._lock:
            secrets = sorted(self._secrets, key=len, reverse=True)
        for secret in secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
