"""The cluster, roles, databases and grants of PostgreSQL."""

import os
from typing import Any, Dict, List, Optional

from .. import places, postgresql, process
from ..faults import StepFault
from ..observe import World
from ..postgresql import identifier, literal
from ..vocabulary import Step
from . import databases
from .contract import Finding, Handler, Run, absent, change


def _run(statements: str, run: Run, database: str = "postgres") -> None:
    run.world.forget("postgresql")
    postgresql.execute(statements, database=database)


class Clusters(Handler):
    """`postgresql_cluster`: the data folder is initialised."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Look for PG_VERSION where a set-up is asked for."""
        version = places.real(os.path.join(step["data"], "PG_VERSION"))
        if step["setup"] == "none" or os.path.exists(version):
            return None
        return Finding("create", [change("data", None, step["data"])])

    def apply(self, step: Step, run: Run) -> None:
        """`postgresql-setup --initdb`, which knows the data folder of its package. Raises StepFault."""
        done = process.run(["postgresql-setup", "--initdb"], timeout=300, listener=run.log)
        if not done.ok():
            raise StepFault(done.reason("postgresql-setup"))
        if self.check(step, run.world) is not None:
            raise StepFault("postgresql-setup did not initialise {}".format(step["data"]))


class Roles(Handler):
    """`postgresql_role`: a role that may log in with a password."""

    def _id(self, step: Step) -> str:
        return "postgresql:{}".format(step["name"])

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the stored verifier with the one remembered for this password."""
        body = None if absent(step) else step["password"]
        try:
            role = world.postgresql().roles.get(step["name"])
        except StepFault as fault:
            return databases.unanswered(fault, step, body or "")
        if absent(step):
            return None if role is None else Finding("delete", [])
        if role is None:
            return Finding("create", [], body=body)
        changes = [] if role.login else [change("login", before=False, after=True)]
        if not databases.password_is(self._id(step), step["password"], role.verifier):
            return Finding("update", [*changes, change("password", "other", "given")], body=body)
        return Finding("update", changes) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The stored verifier so far."""
        role = run.world.postgresql().roles.get(step["name"])
        stored = None if role is None else {"login": role.login, "verifier": role.verifier}
        return {"name": step["name"], "stored": stored, "removed": absent(step)}

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER or DROP ROLE; the server is given the verifier, never the password."""
        name = identifier(step["name"])
        if absent(step):
            self._drop(step["name"], run)
            databases.forget_password(self._id(step))
            return
        role = run.world.postgresql().roles.get(step["name"])
        if role is not None and databases.password_is(self._id(step), step["password"], role.verifier):
            _run("ALTER ROLE {} LOGIN;\n".format(name), run)
            return
        stored = postgresql.verifier(databases.password(step["password"], run))
        run.scrubber.learn(stored)
        verb = "CREATE" if role is None else "ALTER"
        _run("{} ROLE {} LOGIN PASSWORD {};\n".format(verb, name, literal(stored)), run)
        databases.remember_password(self._id(step), step["password"], stored)

    def _drop(self, role: str, run: Run) -> None:
        """Roles are dropped after what they own; what is left of their grants goes with them."""
        state = run.world.postgresql()
        owned = sorted(name for name, database in state.databases.items() if database.owner == role)
        if owned:
            raise StepFault("the role {} still owns the database {}".format(role, owned[0]))
        for name in sorted(state.databases):
            if name != "template0":
                _run("DROP OWNED BY {};\n".format(identifier(role)), run, database=name)
        _run("DROP ROLE IF EXISTS {};\n".format(identifier(role)), run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Drop what was made, or set the old verifier again."""
        if record["removed"]:
            return False
        stored = record["stored"]
        name = identifier(record["name"])
        if stored is None:
            if record["name"] in run.world.postgresql().roles:
                self._drop(record["name"], run)
            return True
        run.scrubber.learn(stored["verifier"])
        secret = literal(stored["verifier"]) if stored["verifier"] else "NULL"
        _run(
            "ALTER ROLE {} {} PASSWORD {};\n".format(name, "LOGIN" if stored["login"] else "NOLOGIN", secret),
            run,
        )
        return True


class Databases(Handler):
    """`postgresql_database`: its owner; only the owner and those with a grant may connect."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Look it up."""
        try:
            found = world.postgresql().databases.get(step["name"])
        except StepFault as fault:
            return databases.unanswered(fault, step)
        if absent(step):
            return Finding("delete", [], "it is dumped first") if found else None
        if found is None:
            return Finding("create", [change("owner", None, step["owner"])])
        changes = []
        if found.owner != step["owner"]:
            changes.append(change("owner", found.owner, step["owner"]))
        if found.public:
            changes.append(change("public_connect", before=True, after=False))
        return Finding("update", changes) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Its owner so far; a dropped database is not brought back (the dump is kept)."""
        found = run.world.postgresql().databases.get(step["name"])
        if absent(step):
            return {}
        if found is None:
            return {"created": step["name"]}
        return {"name": step["name"], "owner": found.owner, "public": found.public}

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER, or dump and DROP."""
        name = identifier(step["name"])
        if absent(step):
            databases.dump_before_drop("postgresql", step["name"], postgresql.dump, run)
            self._drop(step["name"], run)
            return
        found = run.world.postgresql().databases.get(step["name"])
        statements = ""
        if found is None:
            statements += "CREATE DATABASE {} OWNER {};\n".format(name, identifier(step["owner"]))
        elif found.owner != step["owner"]:
            statements += "ALTER DATABASE {} OWNER TO {};\n".format(name, identifier(step["owner"]))
        _run(statements + "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC;\n".format(name), run)

    def _drop(self, name: str, run: Run) -> None:
        _run(
            "REVOKE CONNECT ON DATABASE {0} FROM PUBLIC;\n"
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {1};\n"
            "DROP DATABASE IF EXISTS {0};\n".format(identifier(name), literal(name)),
            run,
        )

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Drop what was made while it is empty, or give it back to its owner."""
        if "created" in record:
            if record["created"] in run.world.postgresql().databases:
                if not postgresql.is_empty(record["created"]):
                    return False
                self._drop(record["created"], run)
            return True
        if "name" not in record:
            return False
        name = identifier(record["name"])
        statements = "ALTER DATABASE {} OWNER TO {};\n".format(name, identifier(record["owner"]))
        if record["public"]:
            statements += "GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC;\n".format(name)
        _run(statements, run)
        return True


_ALL = ["CONNECT", "CREATE", "TEMPORARY"]


class Grants(Handler):
    """`postgresql_grant`: exactly these privileges of a role on a database; ALL also makes tables in schema public."""

    def _held(self, place: Dict[str, Any], world: World) -> List[str]:
        return sorted(world.postgresql().grants.get((place["database"], place["role"]), ()))

    def _owns(self, place: Dict[str, Any], world: World) -> bool:
        database = world.postgresql().databases.get(place["database"])
        return database is not None and database.owner == place["role"]

    def _schema(self, place: Dict[str, Any], world: World) -> bool:
        return (place["database"], place["role"]) in world.postgresql().schema

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the privileges on the database and, for ALL, on its schema public."""
        try:
            held = self._held(step, world)
            owns = self._owns(step, world)
            schema = self._schema(step, world)
        except StepFault as fault:
            return databases.unanswered(fault, step)
        if owns:
            return None  # an owner holds everything; taking it away from the owner would only confuse
        wanted = self._wanted(step)
        changes = [] if held == wanted else [change("privileges", held, wanted)]
        all_wanted = wanted == _ALL
        if schema != all_wanted:
            changes.append(change("schema_public", schema, all_wanted))
        if not changes:
            return None
        action = "delete" if absent(step) else ("update" if held else "create")
        return Finding(action, changes)

    def _wanted(self, step: Step) -> List[str]:
        if absent(step):
            return []
        return _ALL if step["privileges"] == ["ALL"] else sorted(step["privileges"])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The privileges so far."""
        place = {"database": step["database"], "role": step["role"]}
        return dict(place, privileges=self._held(step, run.world), schema=self._schema(step, run.world))

    def apply(self, step: Step, run: Run) -> None:
        """REVOKE and GRANT."""
        wanted = self._wanted(step)
        self._make(step, wanted, wanted == _ALL, run)

    def _make(self, place: Dict[str, Any], privileges: List[str], schema: object, run: Run) -> None:
        database, role = identifier(place["database"]), identifier(place["role"])
        statements = "REVOKE ALL ON DATABASE {} FROM {};\n".format(database, role)
        if privileges:
            statements += "GRANT {} ON DATABASE {} TO {};\n".format(", ".join(privileges), database, role)
        on_schema = (
            "GRANT ALL ON SCHEMA public TO {};\n" if schema else "REVOKE ALL ON SCHEMA public FROM {};\n"
        )
        _run(statements + on_schema.format(role), run, database=place["database"])

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Grant exactly what was held before."""
        state = run.world.postgresql()
        if record["role"] in state.roles and record["database"] in state.databases:
            self._make(record, record["privileges"], record["schema"], run)
        return True
