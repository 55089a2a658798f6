"""What the web server adds to a site's answers: redirects, headers; and whom it takes a visitor for. As values for templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.desired.kinds.serving import Redirect

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
"""Headers that every site has unless its manifest says otherwise."""


@dataclass(frozen=True)
class Rule:
    """A redirect: `pattern` is a regular expression over a request's path and query as they were sent.

    `rest` tells that its first group goes behind `to`, `query` that the visitor's query does.
    """

    pattern: str
    to: str
    status: int
    rest: bool
    query: bool


def rules(redirects: Sequence[Redirect]) -> tuple[Rule, ...]:
    """The redirects in their order, the first that fits being the one that counts.

    What was sent is compared, not the path that nginx makes of it: that one is another after `try_files`, which would send
    visitors of a front controller in circles, and its line breaks are decoded. Behind a prefix all slashes and backslashes
    are left out, so that no visitor can be sent to another host by `/old//elsewhere.test`.
    """
    return tuple(_rule(redirect) for redirect in redirects)


def _rule(redirect: Redirect) -> Rule:
    prefix, star, _ = redirect.from_.partition("*")
    pattern = f"^{re.escape(prefix)}"
    if prefix == "/" and star:
        pattern += r"(?!\.well-known/acme-challenge/)"  # a certificate is asked for by this path
    pattern += r"[/\\]*([^?#]*)" if star else "(?![^?#])"
    carries = redirect.to.endswith("*")
    to = redirect.to.removesuffix("*")
    return Rule(pattern, to, redirect.status, carries, query="?" not in to and "#" not in to)


@dataclass(frozen=True)
class Header:
    """A header of every answer. `variable` is the name of a variable that leaves it to the application where that has a
    word; it is empty where the manifest decides."""

    name: str
    value: str
    variable: str = ""

    @property
    def of_application(self) -> str:
        """nginx's variable, less the dollar sign, of what the application said."""
        return f"upstream_http_{self.name.lower().replace('-', '_')}"


def headers(declared: Mapping[str, str | None], user: str) -> tuple[Header, ...]:
    """Those for security that `declared` does not speak of, then those it declares, by name."""
    spoken = {name.lower() for name in declared}
    return (
        *(
            Header(name, value, f"panel_{name.lower().replace('-', '_')}_{user}")
            for name, value in SECURITY.items()
            if name.lower() not in spoken
        ),
        *(Header(name, value) for name, value in sorted(declared.items()) if value is not None),
    )
