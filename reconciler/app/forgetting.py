"""Giving a server up: its node is gone for good, and nothing can be removed from it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.app.lock import applying
from reconciler.app.settings import Settings
from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean
from reconciler.record import forgetting
from reconciler.store import Store
from reconciler.store.queries import servers


def forget(
    settings: Settings, store: Store, name: str, confirm: Callable[[Sequence[str]], bool]
) -> tuple[str, ...] | None:
    """Remove a server and everything on it from the record; the addresses that went. The node is not touched.

    `confirm` gets these addresses before; None when the person says no. UsageFault for an unknown server, StoreBusy
    during an apply.
    """
    with applying(settings.state):
        known = [row.name for row in store.read(servers.all)]
        if name not in known:
            raise UsageFault(f"no server {name!r} is recorded", hint=did_you_mean(name, known))
        there = store.read(lambda tx: forgetting.recorded_on(tx, name))
        if not confirm([str(key) for key in there]):
            return None
        store.write(lambda tx: forgetting.forget_server(tx, name))
    return tuple(str(key) for key in there)
