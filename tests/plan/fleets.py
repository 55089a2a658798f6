"""Fleets for hypothesis: small, often sound, sometimes with dangling references."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from reconciler.desired.kinds import Kind, Resource

from .scene import manifest

SERVERS = ("web1", "web2", "web3")
SITES = ("blog", "shop", "wiki", "docs")
DATABASES = ("blog-db", "shop-db")

_common = {
    "suspend": st.sampled_from([False, False, False, True]),
    "protect": st.booleans(),
    "deletionPolicy": st.sampled_from(["delete", "retain"]),
}
_texts = st.text(alphabet='ab`~"\\<|@é \t', max_size=12).map(lambda t: t.replace("\t", " "))
"""What could end a fence, a table cell or a quoted text."""


def _with_common(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields | _common)


_site = _with_common(
    {
        "server": st.sampled_from(SERVERS),
        "phpVersion": st.sampled_from(["8.2", "8.4"]),
        "aliases": st.lists(st.sampled_from(["a.test", "b.test", "c.test"]), unique=True),
        "env": st.dictionaries(st.sampled_from(["TOKEN", "KEY"]), _texts),
        "state": st.sampled_from(["active", "suspended"]),
        "php": st.fixed_dictionaries({}, optional={"maxChildren": st.integers(1, 9)}),
    }
)
_database = _with_common(
    {
        "server": st.sampled_from(SERVERS),
        "site": st.sampled_from([*SITES, None]),
        "engine": st.sampled_from(["mariadb", "postgresql"]),
        "name": st.sampled_from(["one", "two"]),
        "username": st.sampled_from(["one", "two"]),
    }
)
_server = _with_common(
    {
        "port": st.sampled_from([22, 2222]),
        "software": st.just({"php": ["8.2"]}),
        "sshKey": st.sampled_from(["ops", "old"]),
    }
)


@st.composite
def fleets(draw: st.DrawFn, *, moves: bool = True) -> list[Resource]:
    """Manifests of one fleet; names are unique within a kind."""
    made: list[Resource] = []
    for kind, names, specs in (
        (Kind.SSH_KEY, ("ops", "old"), _with_common({})),
        (Kind.SERVER, SERVERS, _server),
        (Kind.SITE, SITES, _site),
        (Kind.DATABASE, DATABASES, _database),
        (Kind.USER, ("ada",), _with_common({})),
    ):
        for name in draw(st.lists(st.sampled_from(names), unique=True)):
            notes = {"note": draw(_texts)}
            if moves and draw(st.integers(0, 4)) == 0:
                notes["reconciler/moved-from"] = draw(st.sampled_from(names))
            made.append(manifest(kind, name, notes, **draw(specs)))
    return made
