"""Steps, sections and bundles as values; their JSON form is the contract of docs/protocol.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.kit.secret import Secret


@dataclass(frozen=True)
class Body:
    """The content of a file, or a password: sent to a node only when it lacks it.

    `content` is None when it is not known at plan time (a secret that the plan may not open).
    """

    content: bytes | None = field(repr=False)
    secret: bool = False
    digest: str = "unknown"
    """Of a content that is kept elsewhere, with its `length`: an archive is read when a node asks for it."""
    length: int = 0

    @staticmethod
    def of(text: str | Secret) -> Body:
        """A body from text; from a Secret it is marked secret."""
        if isinstance(text, Secret):
            return Body(text.reveal().encode("utf-8"), secret=True)
        return Body(text.encode("utf-8"))

    @property
    def sha256(self) -> str:
        """Digest of the content; `unknown` for a body that is not known yet."""
        return self.digest if self.content is None else hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        """Bytes; 0 when unknown."""
        return self.length if self.content is None else len(self.content)


@dataclass(frozen=True)
class Step:
    """One typed, idempotent operation on a node. `params` are the fields of docs/protocol.md without type and key."""

    type: str
    target: str
    params: Mapping[str, Json]
    body: Body | None = None

    @property
    def key(self) -> str:
        """`type:target`, unique in a bundle."""
        return f"{self.type}:{self.target}"

    def to_json(self) -> dict[str, Json]:
        """The wire form."""
        return {"type": self.type, "key": self.key, **self.params}

    @staticmethod
    def from_json(value: Mapping[str, Json]) -> Step:
        """The step of a wire form (as recorded in the inventory); without body."""
        kind, key = str(value["type"]), str(value["key"])
        params = {k: v for k, v in value.items() if k not in ("type", "key")}
        return Step(kind, key[len(kind) + 1 :], params)


@dataclass(frozen=True)
class Section:
    """The steps of one resource on one node. `id` is the resource's address; `needs` are ids of earlier sections."""

    id: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The wire form."""
        return {"id": self.id, "needs": list(self.needs), "steps": [s.to_json() for s in self.steps]}

    @property
    def digest(self) -> str:
        """Digest of the wire form."""
        return canonical.digest(self.to_json())


@dataclass(frozen=True)
class Bundle:
    """All sections of one node, in the order of application."""

    server: str
    package_manager: str
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Json]:
        """The wire form; holds no secret, only digests of bodies."""
        return {
            "format": 1,
            "server": self.server,
            "package_manager": self.package_manager,
            "sections": [s.to_json() for s in self.sections],
        }

    @property
    def digest(self) -> str:
        """Identity of the bundle."""
        return canonical.digest(self.to_json())

    def bodies(self) -> dict[str, Body]:
        """Every known body by its digest."""
        return {
            step.body.sha256: step.body
            for section in self.sections
            for step in section.steps
            if step.body is not None and step.body.content is not None
        }
