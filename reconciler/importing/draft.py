"""A manifest that is being made, and what people are told beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from reconciler.desired.kinds import Kind
from reconciler.desired.kinds.common import API_VERSION
from reconciler.kit.canonical import Json

_SHOWN = 200


@dataclass(frozen=True)
class Note:
    """A sentence about a resource (`Site/shop`), a file on the node, or the node itself (empty)."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}" if self.about else self.text


@dataclass
class Draft:
    """A manifest as plain values. `comments` stand above it; `identity` is what a managed site has on its node already."""

    kind: Kind
    name: str
    spec: dict[str, Json]
    comments: list[str] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)
    """Beside the name."""

    @property
    def address(self) -> str:
        """`Kind/name`."""
        return f"{self.kind.value}/{self.name}"

    @property
    def file(self) -> str:
        """The file that it is written to, below the folder of the import: `sites/shop.yaml`."""
        return f"{_FOLDERS[self.kind]}/{self.name}.yaml"

    @property
    def value(self) -> dict[str, Json]:
        """The manifest."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind.value,
            "metadata": {"name": self.name, **self.metadata},
            "spec": self.spec,
        }

    def text(self) -> str:
        """The file's text. Comments are made of printable lines, values are quoted by PyYAML where they need it."""
        head = "".join(f"# {shown(line)}\n" for line in self.comments)
        return head + yaml.dump(
            _plain(self.value), Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=4096
        )


_FOLDERS = {
    Kind.SERVER: "servers",
    Kind.SITE: "sites",
    Kind.DATABASE: "databases",
    Kind.SSH_KEY: "keys",
    Kind.USER: "users",
    Kind.ROLLOUT: "rollouts",
    Kind.DEFAULTS: "defaults",
}


@dataclass(frozen=True)
class Import:
    """What came of an import: the manifests, and the report.

    `known` are resources that Reconciler made on the node and that the fleet declares already; `adopted` addresses of
    those, and of drafts, whose steps are those that were applied there; `managed`: the node has a kept bundle; `highest` is
    the highest number of its accounts of the form web1 (0: none).
    """

    drafts: tuple[Draft, ...]
    notes: tuple[Note, ...] = ()
    known: tuple[Draft, ...] = ()
    adopted: frozenset[str] = frozenset()
    managed: bool = False
    highest: int = 0


class _Dumper(yaml.SafeDumper):
    """Versions and words such as `no` are quoted, since the strict reader keeps YAML 1.2 and others keep 1.1."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _plain(value: object) -> object:
    """Plain lists and maps; what the dumper does not know would raise."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def shown(text: str, most: int = _SHOWN) -> str:
    """Somebody else's text in one printable line: control characters, line separators and look-alikes become escapes."""
    cut = text if len(text) <= most else text[:most] + "…"
    return "".join(c if c == "…" or " " <= c <= "~" else ascii(c)[1:-1] for c in cut)
