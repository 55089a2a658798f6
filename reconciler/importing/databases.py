"""Databases that somebody made by hand, as Databases: one login each, with what it may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

from reconciler.desired.kinds import Kind
from reconciler.desired.kinds import database as kind
from reconciler.importing.draft import Draft, Note, shown
from reconciler.importing.names import Names, identifier
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import FoundDatabase, Rights

_KNOWN = frozenset(get_args(get_args(kind.Privilege)[0]))
_LOCAL = ("localhost", "127.0.0.1", "::1", "")
_MIB = 1024 * 1024


@dataclass
class Databases:
    """What became of the databases; `engines` are those that hold one."""

    drafts: list[Draft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    engines: set[str] = field(default_factory=set)


def take(
    found: Iterable[FoundDatabase], server: str, names: Names, taken: Iterable[tuple[str, str]] = ()
) -> Databases:
    """Manifests of databases; those in `taken` (engine, name) are in the fleet already."""
    made = Databases()
    logins: set[tuple[str, str]] = set()
    known = set(taken)
    for one in found:
        about = f"{one.engine} database '{shown(one.name, 80)}'"
        if (one.engine, one.name) in known:
            continue
        if identifier(one.name) is None:
            rule = (
                "a manifest takes 1 to 31 lower-case letters, digits and underscores, beginning with a letter"
            )
            made.notes.append(Note(about, f"not taken over: {rule}"))
            continue
        login = _login(one, made, about)
        if login is None:
            continue
        user, privileges = login
        if (one.engine, user) in logins:
            told = f"not taken over: its user {shown(user, 60)} has another database already, and a manifest gives each its own"
            made.notes.append(Note(about, told))
            continue
        logins.add((one.engine, user))
        made.drafts.append(_draft(one, user, privileges, server, names, made))
    return made


def _login(one: FoundDatabase, made: Databases, about: str) -> tuple[str, list[str]] | None:
    """The user that the manifest names, and what it may do. The other users stay as they are, and are told of."""
    candidates = [rights for rights in one.grants if rights.host in _LOCAL]
    if one.owner:
        candidates.insert(0, Rights(user=one.owner, host="", privileges=["ALL"]))
    usable = [
        rights for rights in candidates if identifier(rights.user) and rights.user not in ("root", "postgres")
    ]
    if not usable:
        made.notes.append(
            Note(about, "not taken over: no user of its own has rights on it from this machine")
        )
        return None
    chosen = max(usable, key=lambda rights: ("ALL" in rights.privileges, len(rights.privileges)))
    others = sorted(
        {
            f"{r.user}@{r.host}".rstrip("@")
            for r in [*one.grants]
            if r.user != chosen.user or r.host not in _LOCAL
        }
    )
    if others:
        listed = ", ".join(shown(other, 60) for other in others[:5])
        made.notes.append(Note(about, f"these users stay as they are, without manifest: {listed}"))
    lost = [word for word in chosen.privileges if word not in _KNOWN]
    kept = [word for word in chosen.privileges if word in _KNOWN]
    if lost:
        made.notes.append(
            Note(about, f"rights that a manifest cannot give: {', '.join(shown(w, 40) for w in lost)}")
        )
    if not kept:
        made.notes.append(Note(about, "not taken over: its user has no right that a manifest can give"))
        return None
    return chosen.user, kept


def _draft(
    one: FoundDatabase, user: str, privileges: list[str], server: str, names: Names, made: Databases
) -> Draft:
    spec: dict[str, Json] = {"server": server, "engine": one.engine, "name": one.name, "username": user}
    if privileges != ["ALL"]:
        spec["privileges"] = list(privileges)
    spec["adopt"] = True
    made.engines.add(one.engine)
    draft = Draft(Kind.DATABASE, names.give(one.name, "database"), spec)
    draft.comments.append(f"{one.size // _MIB} MiB. Name the site that uses it: `site: NAME`")
    told = (
        f"the data stays; an apply gives the user {user} a new password, since the old one cannot be known: with `site:` "
        "it is written to that site's .env, anything else that logs in has to be told"
    )
    made.notes.append(Note(draft.address, told))
    if (
        one.engine == "mariadb"
        and one.charset
        and (one.charset, one.collation) != ("utf8mb4", "utf8mb4_unicode_ci")
    ):
        text = f"its default becomes utf8mb4 instead of {shown(one.charset, 30)} ({shown(one.collation, 40)}); tables stay as they are"
        made.notes.append(Note(draft.address, text))
    return draft
