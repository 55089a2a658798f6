"""Databases, users and grants of MariaDB."""

from typing import Any, Dict, List, Optional

from .. import mariadb
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from . import databases
from .contract import Finding, Handler, Run, absent, change


def _account(name: str, host: str) -> str:
    return "{}@{}".format(mariadb.literal(name), mariadb.literal(host))


def _user_key(step: Step) -> str:
    """The key of the step that makes the account of a grant."""
    name, host = step["user"], step["host"]
    return "mariadb_user:{}".format(name if host == "localhost" else "{}@{}".format(name, host))


def _run(statements: str, run: Run) -> None:
    run.world.forget("mariadb")
    mariadb.execute(statements)


class Databases(Handler):
    """`mariadb_database`."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Look it up; character set and collation only when the step names them."""
        try:
            found = world.mariadb().databases.get(step["name"])
        except StepFault as fault:
            return databases.unanswered(fault, step)
        if absent(step):
            gone = found is None or not databases.is_ours(step["key"])
            return None if gone else Finding("delete", [], "it is dumped first")
        if found is None:
            return Finding(
                "create", [change(f, None, step[f]) for f in ("charset", "collation") if f in step]
            )
        rows = (("charset", found[0]), ("collation", found[1]))
        changes = databases.foreign(step) + [
            change(field, now, step[field]) for field, now in rows if field in step and now != step[field]
        ]
        return Finding("update", changes, databases.note(step, changes)) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Its settings so far; a dropped database is not brought back (the dump is kept)."""
        found = run.world.mariadb().databases.get(step["name"])
        if absent(step):
            return {}
        if found is None:
            return {"created": step["name"]}
        if databases.will_refuse(step, exists=True):
            return {"refused": True}
        before = {"name": step["name"], "charset": found[0], "collation": found[1]}
        return dict(before, foreign=not databases.is_ours(step["key"]))

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER, or dump and DROP."""
        name = mariadb.identifier(step["name"])
        if absent(step):
            databases.dump_before_drop("mariadb", step["name"], mariadb.dump, run)
            _run("DROP DATABASE IF EXISTS {};\n".format(name), run)
            databases.disclaim(step["key"])
            return
        exists = step["name"] in run.world.mariadb().databases
        databases.claim(step, exists=exists)
        verb = "ALTER" if exists else "CREATE"
        _run("{} DATABASE {}{};\n".format(verb, name, self._settings(step)), run)

    def _settings(self, values: Dict[str, Any]) -> str:
        text = ""
        if "charset" in values:
            text += " CHARACTER SET {}".format(values["charset"])
        if "collation" in values:
            text += " COLLATE {}".format(values["collation"])
        return text

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Drop what was made while it is empty, or set the old character set."""
        if record.get("refused"):
            return True
        if "created" in record:
            if record["created"] in run.world.mariadb().databases:
                if not mariadb.is_empty(record["created"]):
                    return False
                _run("DROP DATABASE {};\n".format(mariadb.identifier(record["created"])), run)
            databases.disclaim("mariadb_database:" + record["created"])
            return True
        if "name" not in record:
            return False
        if record.get("foreign"):
            databases.disclaim("mariadb_database:" + record["name"])
        _run("ALTER DATABASE {}{};\n".format(mariadb.identifier(record["name"]), self._settings(record)), run)
        return True


class Users(Handler):
    """`mariadb_user`: an account with a password."""

    def _id(self, step: Step) -> str:
        return "mariadb:{}@{}".format(step["name"], step["host"])

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the stored hash with the one remembered for this password."""
        body = None if absent(step) else step["password"]
        try:
            stored = world.mariadb().users.get((step["name"], step["host"]))
        except StepFault as fault:
            return databases.unanswered(fault, step, body or "")
        if absent(step):
            return Finding("delete", []) if stored is not None and databases.is_ours(step["key"]) else None
        if stored is None:
            return Finding("create", [], body=body)
        changes = databases.foreign(step)
        if self._powers(step, world):
            changes.append(change("powers", ", ".join(self._powers(step, world)), "none"))
        if not databases.password_is(self._id(step), step["password"], stored):
            changes.append(change("password", "other", "given"))
        else:
            body = None
        return Finding("update", changes, databases.note(step, changes), body) if changes else None

    def _powers(self, step: Step, world: World) -> List[str]:
        """What the account may do to everything on the server: ours may nothing."""
        return world.mariadb().powers.get(_account(step["name"], step["host"]), [])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The stored hash so far."""
        stored = run.world.mariadb().users.get((step["name"], step["host"]))
        if not absent(step) and databases.will_refuse(step, exists=stored is not None):
            return {"refused": True}
        before = {"name": step["name"], "host": step["host"], "stored": stored, "removed": absent(step)}
        powers = [] if absent(step) else self._powers(step, run.world)
        return dict(before, key=step["key"], foreign=not databases.is_ours(step["key"]), powers=powers)

    def apply(self, step: Step, run: Run) -> None:
        """CREATE, ALTER or DROP USER; the server is given the hash, never the password."""
        account = _account(step["name"], step["host"])
        if absent(step):
            _run("DROP USER IF EXISTS {};\n".format(account), run)
            databases.forget_password(self._id(step))
            databases.disclaim(step["key"])
            return
        before = run.world.mariadb().users.get((step["name"], step["host"]))
        databases.claim(step, exists=before is not None)
        if self._powers(step, run.world):
            everything = "REVOKE ALL PRIVILEGES ON *.* FROM {0};\nREVOKE GRANT OPTION ON *.* FROM {0};\n"
            _run(everything.format(account), run)
        if before is not None and databases.password_is(self._id(step), step["password"], before):
            return
        secret = databases.password(step["password"], run)
        stored = mariadb.native_hash(secret)
        run.scrubber.learn(stored)
        verb = "CREATE" if before is None else "ALTER"
        _run("{} USER {} IDENTIFIED BY PASSWORD {};\n".format(verb, account, mariadb.literal(stored)), run)
        now = run.world.mariadb().users.get((step["name"], step["host"]), "")
        databases.remember_password(self._id(step), step["password"], now)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Drop what was made, or set the old hash again."""
        if record.get("refused"):
            return True
        if record["removed"]:
            return False
        account = _account(record["name"], record["host"])
        if record["stored"] is None:
            _run("DROP USER IF EXISTS {};\n".format(account), run)
            databases.disclaim(record["key"])
            return True
        if record["powers"]:
            _run("GRANT {} ON *.* TO {};\n".format(", ".join(record["powers"]), account), run)
        if record["foreign"]:
            databases.disclaim(record["key"])
        if not record["stored"].startswith("*"):
            return False  # it was no password of the native kind
        run.scrubber.learn(record["stored"])
        _run(
            "ALTER USER {} IDENTIFIED BY PASSWORD {};\n".format(account, mariadb.literal(record["stored"])),
            run,
        )
        return True


class Grants(Handler):
    """`mariadb_grant`: exactly these privileges of a user on a database."""

    def _held(self, step: Step, world: World) -> List[str]:
        grants = world.mariadb().grants
        grant = grants.get((mariadb.pattern(step["database"]), step["user"], step["host"]))
        if grant is None:
            return []
        return ["ALL"] if grant.all else sorted(grant.privileges)

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the set of privileges."""
        try:
            held = self._held(step, world)
        except StepFault as fault:
            return databases.unanswered(fault, step)
        wanted = [] if absent(step) else sorted(step["privileges"])
        if held == wanted or (absent(step) and not databases.is_ours(_user_key(step))):
            return None
        action = "delete" if absent(step) else ("update" if held else "create")
        return Finding(action, [change("privileges", held, wanted)])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The privileges so far."""
        place = {field: step[field] for field in ("database", "user", "host")}
        return dict(place, privileges=self._held(step, run.world))

    def apply(self, step: Step, run: Run) -> None:
        """GRANT what is missing and REVOKE what is too much."""
        self._make(step, [] if absent(step) else step["privileges"], run)

    def _make(self, place: Dict[str, Any], privileges: List[str], run: Run) -> None:
        on = "{}.*".format(mariadb.identifier(mariadb.pattern(place["database"])))
        who = _account(place["user"], place["host"])
        statements = ""
        if self._held(place, run.world):
            statements += "REVOKE ALL PRIVILEGES ON {} FROM {};\n".format(on, who)
        if privileges:
            names = "ALL PRIVILEGES" if privileges == ["ALL"] else ", ".join(privileges)
            statements += "GRANT {} ON {} TO {};\n".format(names, on, who)
        if statements:
            _run(statements, run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Grant exactly what was held before."""
        state = run.world.mariadb()
        if (record["user"], record["host"]) in state.users:
            self._make(record, record["privileges"], run)
        return True
