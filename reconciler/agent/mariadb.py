"""MariaDB over its own client: statements on standard input, as root through the local socket."""

import hashlib
import re
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from . import process
from .faults import StepFault

_CLIENTS = ("mariadb", "mysql")
_DUMPERS = ("mariadb-dump", "mysqldump")
# A fixed mode makes quoting mean one thing; without NO_AUTO_CREATE_USER an old server would create users by GRANT.
_PREAMBLE = "SET SESSION sql_mode='NO_AUTO_CREATE_USER', SESSION lock_wait_timeout=60;\nSET NAMES utf8mb4;\n"
_ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}

# Columns of mysql.db whose privilege is not named like the column.
_ODD_COLUMNS = {
    "create_tmp_table": "CREATE TEMPORARY TABLES",
    "delete_history": "DELETE HISTORY",
    "show_create_routine": "SHOW CREATE ROUTINE",
}
Grantee = Tuple[str, str, str]  # database pattern as stored, user, host


class Grant(NamedTuple):
    """Privileges on one database; `all` when nothing but GRANT OPTION is missing."""

    all: bool
    privileges: FrozenSet[str]


class State(NamedTuple):
    """What the server holds. Database: (character set, collation). User (name, host): the stored password hash.

    `powers`: the privileges of an account on everything, by its name as the server writes it (`'shop'@'localhost'`).
    """

    databases: Dict[str, Tuple[str, str]]
    users: Dict[Tuple[str, str], str]
    grants: Dict[Grantee, Grant]
    powers: Dict[str, List[str]]


def literal(value: str) -> str:
    """A string literal. Raises ValueError for what no value of ours holds."""
    if not re.match(r"[ -~]*\Z", value):
        raise ValueError("control characters and non-ASCII text are refused")
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def identifier(value: str) -> str:
    """A quoted name."""
    return "`{}`".format(value.replace("`", "``"))


def pattern(database: str) -> str:
    """A database name as GRANT and mysql.db want it: `_` and `%` would else match other databases."""
    return database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")


def native_hash(password: str) -> str:
    """What mysql_native_password stores, so that the password itself reaches no log of the server."""
    inner = hashlib.sha1(password.encode("utf-8")).digest()  # noqa: S324 (the server's format)
    return "*" + hashlib.sha1(inner).hexdigest().upper()  # noqa: S324


def _program(
    names: Tuple[str, ...], arguments: List[str], statements: Optional[str], timeout: float
) -> process.Finished:
    done = process.Finished(code=127, out="", err=names[0] + " is not installed", timed_out=False)
    for name in names:
        data = None if statements is None else statements.encode("ascii")
        done = process.run([name, *arguments], stdin=data, timeout=timeout)
        if done.code != 127:
            break
    return done


def execute(statements: str, *, timeout: float = 120.0) -> str:
    """Run statements; what they print, tab-separated with headings. Raises StepFault with the server's message."""
    arguments = ["--user=root", "--batch", "--connect-timeout=10"]
    done = _program(_CLIENTS, arguments, _PREAMBLE + statements, timeout)
    if not done.ok():
        raise StepFault("MariaDB: " + done.reason("the client"))
    return done.out


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found.group(1), found.group(1)), text)


def _row(heads: List[str], cells: List[str]) -> Dict[str, str]:
    return {head: _unescape(cells[place]) for place, head in enumerate(heads)}


def _rows(block: str) -> List[Dict[str, str]]:
    lines = block.splitlines()
    if not lines:
        return []
    heads = [head.lower() for head in lines[0].split("\t")]
    return [_row(heads, line.split("\t")) for line in lines[1:]]


def _grant(row: Dict[str, str]) -> Grant:
    columns = {name[: -len("_priv")]: value for name, value in row.items() if name.endswith("_priv")}
    columns.pop("grant", None)
    held = {name for name, value in columns.items() if value == "Y"}
    names = frozenset(_ODD_COLUMNS.get(name, name.upper().replace("_", " ")) for name in held)
    return Grant(len(held) == len(columns), names)


def observe() -> State:
    """Databases, users and database grants, in one conversation. Raises StepFault."""
    mark = "panel-next-answer"
    divider = "SELECT '{0}' AS `{0}`;\n".format(mark)
    out = execute(
        "SELECT SCHEMA_NAME AS name, DEFAULT_CHARACTER_SET_NAME AS charset, DEFAULT_COLLATION_NAME AS collation"
        " FROM information_schema.SCHEMATA;\n"
        + divider
        + "SELECT User AS user, Host AS host, COALESCE(NULLIF(authentication_string, ''), Password) AS hash"
        " FROM mysql.user;\n"
        + divider
        + "SELECT * FROM mysql.db;\n"
        + divider
        + "SELECT GRANTEE AS grantee, PRIVILEGE_TYPE AS power FROM information_schema.USER_PRIVILEGES"
        " WHERE PRIVILEGE_TYPE <> 'USAGE' UNION SELECT GRANTEE, 'GRANT OPTION' FROM information_schema.USER_PRIVILEGES"
        " WHERE IS_GRANTABLE = 'YES' ORDER BY 1, 2;\n"
    )
    blocks = out.split("{0}\n{0}\n".format(mark))
    databases = {row["name"]: (row["charset"], row["collation"]) for row in _rows(blocks[0])}
    users = {(row["user"], row["host"]): row["hash"] for row in _rows(blocks[1])}
    grants = {(row["db"], row["user"], row["host"]): _grant(row) for row in _rows(blocks[2])}
    powers: Dict[str, List[str]] = {}
    for row in _rows(blocks[3]):
        powers.setdefault(row["grantee"], []).append(row["power"])
    return State(databases, users, grants, powers)


def sizes() -> Dict[str, int]:
    """Bytes of tables and indexes by database, for those that have tables. Raises StepFault."""
    out = execute(
        "SELECT TABLE_SCHEMA AS name, CAST(SUM(DATA_LENGTH + INDEX_LENGTH) AS UNSIGNED) AS size"
        " FROM information_schema.TABLES GROUP BY TABLE_SCHEMA;\n"
    )
    return {row["name"]: int(row["size"]) for row in _rows(out) if row["size"].isdigit()}


def is_empty(database: str) -> bool:
    """True when a database has no table or view. Raises StepFault."""
    out = execute(
        "SELECT COUNT(*) AS n FROM information_schema.TABLES WHERE TABLE_SCHEMA={};\n".format(
            literal(database)
        )
    )
    rows = _rows(out)
    return bool(rows) and rows[0]["n"] == "0"


def dump(database: str, target: int) -> None:
    """Write a compressed dump to a descriptor. Raises StepFault, OSError."""
    arguments = [
        "--user=root",
        "--single-transaction",
        "--routines",
        "--triggers",
        "--events",
        "--databases",
        database,
    ]
    for name in _DUMPERS:
        done = process.run_to_gzip([name, *arguments], target, timeout=3600)
        if done.code == 127:
            continue
        if not done.ok():
            raise StepFault("cannot dump the database {}: {}".format(database, done.reason(name)))
        return
    raise StepFault("cannot dump the database {}: {} is not installed".format(database, _DUMPERS[0]))
