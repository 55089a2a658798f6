"""Opens what manifests hold encrypted, with the identity of the state directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from reconciler.desired import sealed
from reconciler.desired.fleet import Fleet, Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.kit.canonical import Json
from reconciler.kit.secret import Secret
from reconciler.plan.kinds import spec_of
from reconciler.store import Tx, identity
from reconciler.store.queries import inventory


def opener(tx: Tx) -> sealed.Opener:
    """Opens armored texts. WrongKey when APP_KEY does not open the identity."""
    age = identity.age(tx)
    return age.open if age is not None else _no_identity


def _no_identity(armored: str) -> Secret:
    raise ValueError(
        "cannot be opened: this state directory has no age identity yet; `reconciler secrets recipient` makes one"
    )


def recorded_texts(tx: Tx) -> list[Secret]:
    """What is encrypted in the manifests that are applied, and passwords in clear: no output may show it.

    What cannot be opened is left out.
    """
    found = [
        Secret(password)
        for entry in inventory.all(tx)
        if entry.kind == Kind.DATABASE and isinstance(password := spec_of(entry.spec).get("password"), str)
    ]
    given: sealed.Opener | None = None
    for armored in {text for entry in inventory.all(tx) for text in _armored(entry.spec)}:
        given = given or opener(tx)
        with suppress(ValueError):
            found.append(given(armored))
    return found


def _armored(value: Json) -> Iterator[str]:
    match value:
        case {"age": str(text), **others} if not others:
            yield text
        case dict():
            for inner in value.values():
                yield from _armored(inner)
        case list():
            for inner in value:
                yield from _armored(inner)
        case _:
            return


def judge(tx: Tx, loaded: Loaded) -> Loaded:
    """What was loaded, less the resources with a value that cannot be opened here; a problem names each."""
    return sealed.judge(loaded, lambda: opener(tx))


@dataclass(frozen=True)
class Opened:
    """Fleets with their encrypted values opened, by server. `locked` says of resources why theirs could not be.

    `texts` is what was found: no output may show it.
    """

    nodes: Mapping[str, Fleet]
    locked: Mapping[Key, str]
    texts: tuple[Secret, ...]


def opened(tx: Tx, nodes: Mapping[str, Fleet]) -> Opened:
    """The fleets as bundles are rendered from them."""
    found: dict[str, Fleet] = {}
    locked: dict[Key, str] = {}
    for name, fleet in nodes.items():
        found[name], shut = sealed.open_fleet(fleet, lambda: opener(tx))
        locked |= shut
    texts = [t for f in found.values() for e in f.entries.values() for t in sealed.texts(e.manifest)]
    return Opened(found, locked, tuple(texts))
