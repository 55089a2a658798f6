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


class Settings(Handler):
    """`postgresql_setting`: a setting of the cluster that ALTER SYSTEM writes; it is in force after a restart."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare with what ALTER SYSTEM has written so far."""
        try:
            now = world.postgresql().settings.get(step["name"])
        except StepFault as fault:
            return databases.unanswered(fault, step)
        wanted = None if absent(step) else step["value"]
        if now == wanted:
            return None
        action = "delete" if absent(step) else ("create" if now is None else "update")
        return Finding(action, [] if absent(step) else [change("value", now, wanted)])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The value so far."""
        return {"name": step["name"], "value": run.world.postgresql().settings.get(step["name"])}

    def apply(self, step: Step, run: Run) -> None:
        """ALTER SYSTEM SET or RESET."""
        self._set(step["name"], None if absent(step) else step["value"], run)

    def _set(self, name: str, value: Optional[str], run: Run) -> None:
        how = "RESET {}".format(name) if value is None else "SET {} = {}".format(name, literal(value))
        _run("ALTER SYSTEM {};\n".format(how), run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Write the old value again."""
        self._set(record["name"], record["value"], run)
        return True


# Until version 14 everybody may make tables in the database postgres, which all logins have in common.
_COMMON_GROUND = (
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n"
    "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;\n"
    "REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;\n"
)


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
            return None if role is None or not databases.is_ours(step["key"]) else Finding("delete", [])
        if role is None:
            return Finding("create", [], body=body)
        changes = databases.foreign(step)
        if not role.login:
            changes.append(change("login", before=False, after=True))
        if role.powers:
            changes.append(change("powers", ", ".join(role.powers), "none"))
        if not databases.password_is(self._id(step), step["password"], role.verifier):
            changes.append(change("password", "other", "given"))
        else:
            body = None
        return Finding("update", changes, databases.note(step, changes), body) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The stored verifier so far."""
        role = run.world.postgresql().roles.get(step["name"])
        if not absent(step) and databases.will_refuse(step, exists=role is not None):
            return {"refused": True}
        stored = None if role is None else role._asdict()
        before = {"name": step["name"], "stored": stored, "removed": absent(step)}
        return dict(before, foreign=not databases.is_ours(step["key"]))

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER or DROP ROLE; the server is given the verifier, never the password."""
        name = identifier(step["name"])
        if absent(step):
            self._drop(step["name"], run)
            databases.forget_password(self._id(step))
            databases.disclaim(step["key"])
            return
        role = run.world.postgresql().roles.get(step["name"])
        databases.claim(step, exists=role is not None)
        if role is not None:
            taken = " ".join("NO" + power for power in role.powers)
            _run("ALTER ROLE {} LOGIN {};\n".format(name, taken), run)
            if databases.password_is(self._id(step), step["password"], role.verifier):
                return
        stored = postgresql.verifier(databases.password(step["password"], run))
        run.scrubber.learn(stored)
        verb = "CREATE" if role is None else "ALTER"
        if role is None:
            _run(_COMMON_GROUND, run)
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
        if record.get("refused"):
            return True
        if record["removed"]:
            return False
        stored = record["stored"]
        name = identifier(record["name"])
        if stored is None:
            if record["name"] in run.world.postgresql().roles:
                self._drop(record["name"], run)
            databases.disclaim("postgresql_role:" + record["name"])
            return True
        run.scrubber.learn(stored["verifier"])
        secret = literal(stored["verifier"]) if stored["verifier"] else "NULL"
        words = " ".join(["LOGIN" if stored["login"] else "NOLOGIN", *stored["powers"]])
        _run("ALTER ROLE {} {} PASSWORD {};\n".format(name, words, secret), run)
        if record["foreign"]:
            databases.disclaim("postgresql_role:" + record["name"])
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
            gone = found is None or not databases.is_ours(step["key"])
            return None if gone else Finding("delete", [], "it is dumped first")
        if found is None:
            return Finding("create", [change("owner", None, step["owner"])])
        changes = databases.foreign(step)
        if found.owner != step["owner"]:
            changes.append(change("owner", found.owner, step["owner"]))
        if found.public:
            changes.append(change("public_connect", before=True, after=False))
        return Finding("update", changes, databases.note(step, changes)) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Its owner so far; a dropped database is not brought back (the dump is kept)."""
        found = run.world.postgresql().databases.get(step["name"])
        if absent(step):
            return {}
        if found is None:
            return {"created": step["name"]}
        if databases.will_refuse(step, exists=True):
            return {"refused": True}
        before = {"name": step["name"], "owner": found.owner, "public": found.public}
        if databases.is_ours(step["key"]):
            return before
        # what is in it changes hands, so it is written down whose it was
        return dict(before, foreign=True, objects=postgresql.objects(step["name"]))

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER, or dump and DROP."""
        name = identifier(step["name"])
        if absent(step):
            databases.dump_before_drop("postgresql", step["name"], postgresql.dump, run)
            self._drop(step["name"], run)
            databases.disclaim(step["key"])
            return
        found = run.world.postgresql().databases.get(step["name"])
        adopting = found is not None and not databases.is_ours(step["key"])
        databases.claim(step, exists=found is not None)
        if adopting and step["owner"] != "postgres":
            # owning a database gives no right to what others have made in it
            owner = identifier(step["owner"])
            taken = [(kind, name, owner) for kind, name, _ in postgresql.objects(step["name"])]
            _run(postgresql.giving(taken), run, database=step["name"])
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
        """Drop what was made while it is empty, or give it and what is in it back to their owners."""
        if record.get("refused"):
            return True
        if "created" in record:
            if record["created"] in run.world.postgresql().databases:
                if not postgresql.is_empty(record["created"]):
                    return False
                self._drop(record["created"], run)
            databases.disclaim("postgresql_database:" + record["created"])
            return True
        if "name" not in record:
            return False
        name = identifier(record["name"])
        if record.get("foreign"):
            given = [(kind, what, owner) for kind, what, owner in record["objects"]]
            _run(postgresql.giving(given), run, database=record["name"])
            databases.disclaim("postgresql_database:" + record["name"])
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
        if owns or (absent(step) and not databases.is_ours("postgresql_role:" + step["role"])):
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
