"""Visitors: a few threads that ask for pages one after another, and note whatever is no answer with status 200."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from lab import Node

VISITORS = 4
_SECONDS = 60
"""How long a visitor waits for one page."""
_PAUSE_SECONDS = 0.03
"""Between two visits. A connection leaves its port in use for a minute, and there are 28,000: however fast the machine is,
twelve visitors do not use them up."""


class Secure(HTTPConnection):
    """Over TLS, under the name of the site; whoever signed its certificate is believed."""

    default_port = 443
    domain = ""

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname=self.domain)


@dataclass
class Visits:
    """What the visitors got: how often each body came, and what else they got instead of a page."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def count(self) -> int:
        return sum(self.answers.values())

    def visit(self, node: Node, domain: str, path: str, over: type[HTTPConnection]) -> None:
        """Ask until told to stop, over a new connection each time."""
        while not self.stop.is_set():
            connection = over(node.ip, timeout=_SECONDS)
            try:
                if isinstance(connection, Secure):
                    connection.domain = domain
                connection.request("GET", path, headers={"Host": domain})
                answer = connection.getresponse()
                body = answer.read().decode("utf-8", "replace")
                if answer.status == 200:
                    self.answers[body] += 1
                else:
                    self.failures.append(f"{answer.status} {body[:80]}")
            except (OSError, HTTPException) as fault:
                self.failures.append(repr(fault))
            finally:
                connection.close()
            time.sleep(_PAUSE_SECONDS)


@contextmanager
def visitors(
    node: Node, domain: str, *paths: str, over: type[HTTPConnection] = HTTPConnection
) -> Iterator[Visits]:
    """Visitors of a site for as long as the block runs; each path has VISITORS of them. `over` is how they come."""
    visits = Visits()
    threads = [
        threading.Thread(target=visits.visit, args=(node, domain, path, over))
        for path in paths or ("/",)
        for _ in range(VISITORS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield visits
    finally:
        visits.stop.set()
        for thread in threads:
            thread.join(_SECONDS)
