"""A Database's section: the database, its login, and what the login may do."""

from __future__ import annotations

from typing import assert_never

from reconciler.blueprint.model import Body, Section, Step
from reconciler.desired.kinds import Database
from reconciler.kit.secret import Secret

LOCAL = "localhost"
"""Host of every MariaDB login: the sites are on the same node."""


def section(database: Database, password: Secret) -> Section:
    """The section of `database`; needs its server's."""
    spec = database.spec
    match spec.engine:
        case "mariadb":
            made = _mariadb(database, password)
        case "postgresql":
            made = _postgresql(database, password)
        case _:
            assert_never(spec.engine)
    return Section(database.address, made, (f"Server/{spec.server}",))


def _mariadb(database: Database, password: Secret) -> tuple[Step, ...]:
    spec, body = database.spec, Body.of(password)
    return (
        Step(
            "mariadb_database",
            spec.name,
            {"name": spec.name, "charset": "utf8mb4", "collation": "utf8mb4_unicode_ci"},
        ),
        Step(
            "mariadb_user",
            spec.username,
            {"name": spec.username, "host": LOCAL, "password": body.sha256},
            body,
        ),
        Step(
            "mariadb_grant",
            f"{spec.name}/{spec.username}",
            {
                "database": spec.name,
                "user": spec.username,
                "host": LOCAL,
                "privileges": list(spec.privileges),
            },
        ),
    )


def _postgresql(database: Database, password: Secret) -> tuple[Step, ...]:
    spec, body = database.spec, Body.of(password)
    owned = spec.privileges == ("ALL",)
    role = Step("postgresql_role", spec.username, {"name": spec.username, "password": body.sha256}, body)
    # From version 15 on only its owner may create in the schema public, so a login with all rights must own it.
    made = Step(
        "postgresql_database", spec.name, {"name": spec.name, "owner": spec.username if owned else "postgres"}
    )
    if owned:
        return role, made
    grant = Step(
        "postgresql_grant",
        f"{spec.name}/{spec.username}",
        {"database": spec.name, "role": spec.username, "privileges": list(spec.privileges)},
    )
    return role, made, grant
