"""Databases with owners, sizes and rights of their users. Password hashes are read by the shared code and stay here."""

import shutil
from typing import Any, Dict, List

from .. import mariadb, places, postgresql
from ..faults import StepFault
from . import bounded

Database = Dict[str, Any]
MOST = 5000
_MARIADB_OWN = ("mysql", "information_schema", "performance_schema", "sys")
_POSTGRESQL_OWN = ("postgres", "template0", "template1")


def find(notes: List[str]) -> List[Database]:
    """The databases of both engines; an engine that does not answer is in the notes."""
    found: List[Database] = []
    search = places.environment()["PATH"]
    programs = {
        "mariadb": ("mariadbd", "mysqld", "/usr/libexec/mariadbd", "/usr/libexec/mysqld"),
        "postgresql": ("postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/bin/postgres"),
    }
    for engine, look in (("mariadb", _mariadb), ("postgresql", _postgresql)):
        names = programs[engine]
        here = any(
            bounded.match(name, 1) if name.startswith("/") else shutil.which(name, path=search)
            for name in names
        )
        if not here:
            continue
        try:
            found += look()
        except StepFault as fault:
            notes.append("{} cannot be asked: {}".format(engine, bounded.text(str(fault))))
    if len(found) > MOST:
        notes.append("there are {} databases; the first {} are told".format(len(found), MOST))
    return found[:MOST]


def _rights(user: str, host: str, privileges: List[str]) -> Dict[str, Any]:
    return {"user": bounded.text(user), "host": bounded.text(host), "privileges": privileges[:40]}


def _mariadb() -> List[Database]:
    state = mariadb.observe()
    sizes = mariadb.sizes()
    found = []
    for name in sorted(state.databases):
        if name in _MARIADB_OWN:
            continue
        grants = []
        for (database, user, host), grant in sorted(state.grants.items()):
            if database in (name, mariadb.pattern(name)) and user:
                privileges = ["ALL"] if grant.all else sorted(grant.privileges)
                grants.append(_rights(user, host, privileges))
        charset, collation = state.databases[name]
        found.append(
            {
                "engine": "mariadb",
                "name": bounded.text(name),
                "owner": "",
                "size": sizes.get(name, 0),
                "charset": charset,
                "collation": collation,
                "grants": grants[:50],
            }  # fmt: skip
        )
    return found


def _postgresql() -> List[Database]:
    state = postgresql.observe([])
    sizes = postgresql.sizes()
    found = []
    for name in sorted(state.databases):
        if name in _POSTGRESQL_OWN:
            continue
        owner = state.databases[name].owner
        grants = [
            _rights(role, "", sorted(privileges))
            for (database, role), privileges in sorted(state.grants.items())
            if database == name and role != owner
        ]
        found.append(
            {
                "engine": "postgresql",
                "name": bounded.text(name),
                "owner": bounded.text(owner),
                "size": sizes.get(name, 0),
                "charset": "",
                "collation": "",
                "grants": grants[:50],
            }  # fmt: skip
        )
    return found
