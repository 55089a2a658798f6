"""What new sites are given: system users `web1`, `web2`, … per server and the SELinux categories that go with each, never again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from reconciler.desired.fleet import Key
from reconciler.plan.masking import UNKNOWN
from reconciler.plan.recorded import Recorded
from reconciler.selinux import mcs

SYSTEM_USER = "system_user"
MCS_ID = "mcs_id"
_FORM = re.compile(r"^web([1-9][0-9]*)$")
_PLACEHOLDER = "unknown-"


class Allocator:
    """Gives each new site of a server the next number.

    A number given in a plan that is never applied is given again: only what is recorded counts.
    """

    def __init__(self, recorded: Recorded, renamed_servers: Mapping[str, str]) -> None:
        """`renamed_servers` maps the recorded name of a server to its new one."""
        self._offline = recorded.offline
        self._next: dict[str, int] = {}
        for name, number in recorded.next_site_number.items():
            self._reserve(renamed_servers.get(name, name), number)
        for resource in recorded.resources.values():
            # The record is the second witness: a counter that was lost must not hand out a user that exists.
            taken = _FORM.match(resource.identity.get(SYSTEM_USER, ""))
            if taken and resource.server is not None:
                self._reserve(renamed_servers.get(resource.server, resource.server), int(taken[1]) + 1)

    def _reserve(self, server: str, number: int) -> None:
        self._next[server] = max(number, self._next.get(server, 1))

    def take(self, site: Key, server: str) -> dict[str, str]:
        """The identity of a new site on `server`. Offline it is a placeholder that `shown` turns into words.

        Raises UsageFault when the server has given out its last categories.
        """
        if self._offline:
            return placeholder(site)
        number = self._next.get(server, 1)
        self._next[server] = number + 1
        return {SYSTEM_USER: f"web{number}", MCS_ID: str(mcs.of_site(number))}


def placeholder(site: Key) -> dict[str, str]:
    """An identity for rendering where none is known: different for each site, so that step keys stay unique."""
    return {SYSTEM_USER: f"{_PLACEHOLDER}{site.name}", MCS_ID: f"{_PLACEHOLDER}{site.name}"}


def shown(text: str, identity: Mapping[str, str]) -> str:
    """`text` with a placeholder identity replaced by `(known after apply)`."""
    for name in placeholders(identity.values()):
        text = re.sub(rf"(?<![a-z0-9-]){re.escape(name)}(?![a-z0-9-])", UNKNOWN, text)
    return text


def shown_identity(identity: Mapping[str, str]) -> dict[str, str]:
    """The identity with placeholders replaced by `(known after apply)`."""
    return {name: UNKNOWN if value.startswith(_PLACEHOLDER) else value for name, value in identity.items()}


def placeholders(values: Iterable[str]) -> list[str]:
    """Those of `values` that stand for something not known yet."""
    return [value for value in values if value.startswith(_PLACEHOLDER)]
