"""PostgreSQL over psql: statements on standard input, as the system user postgres through the local socket."""

import base64
import glob
import hashlib
import hmac
import os
import re
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from . import places, process
from .faults import StepFault

# On Debian `psql` is a script that chooses among versions, in five times the time of the program itself.
_PROGRAMS = "/usr/lib/postgresql/*/bin/"
_PREAMBLE = (
    "SET standard_conforming_strings = on;\nSET client_min_messages = warning;\nSET lock_timeout = '60s';\n"
)
_ITERATIONS = 4096
_MARK = "panel-next-answer"


class Role(NamedTuple):
    """A role: may it log in, its stored verifier (empty when it has no password), and what it may do to everything.

    `powers` are words of ALTER ROLE, such as `CREATEDB`.
    """

    login: bool
    verifier: str
    powers: List[str]


class Database(NamedTuple):
    """A database: its owner, and whether everybody may connect."""

    owner: str
    public: bool


class State(NamedTuple):
    """What the cluster holds. Grants: (database, role) to privileges; `schema` those who hold all on schema public.

    `settings` are those that ALTER SYSTEM has written, in force or waiting for a restart.
    """

    roles: Dict[str, Role]
    databases: Dict[str, Database]
    grants: Dict[Tuple[str, str], FrozenSet[str]]
    schema: FrozenSet[Tuple[str, str]]
    settings: Dict[str, str]


def literal(value: str) -> str:
    """A string literal. Raises ValueError for what no value of ours holds."""
    if not re.match(r"[ -~]*\Z", value):
        raise ValueError("control characters and non-ASCII text are refused")
    return "'{}'".format(value.replace("'", "''"))


def identifier(value: str) -> str:
    """A quoted name."""
    return '"{}"'.format(value.replace('"', '""'))


def verifier(password: str, salt: Optional[bytes] = None) -> str:
    """What scram-sha-256 stores (RFC 5803), so that the password itself reaches no log of the server.

    Only printable ASCII passwords are taken, for which SASLprep changes nothing.
    """
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    client = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    server = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    stored = hashlib.sha256(client).digest()

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, text(salt), text(stored), text(server))


def _program(name: str) -> str:
    """The newest of the distribution's programs of this name, else the one that PATH leads to."""
    found = glob.glob(places.real(_PROGRAMS + name))
    return max(found, key=lambda path: [int(part) for part in re.findall(r"[0-9]+", path)]) if found else name


def execute(statements: str, *, database: str = "postgres", timeout: float = 120.0) -> str:
    """Run statements; rows as tab-separated lines. Raises StepFault with the server's message."""
    argv = [_program("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
    argv += ["-d", database, "-f", "-"]
    done = process.run(
        process.as_user("postgres", argv), stdin=(_PREAMBLE + statements).encode("ascii"), timeout=timeout
    )
    if not done.ok():
        raise StepFault("PostgreSQL: " + done.reason("psql"))
    return done.out


def _rows(block: str) -> List[List[str]]:
    return [line.split("\t") for line in block.splitlines() if line]


def observe(schemas_of: List[str]) -> State:
    """Roles, databases and grants, in one conversation; of the databases named also the grants on schema public."""
    divider = "SELECT '{}';\n".format(_MARK)
    statements = (
        "SELECT rolname, rolcanlogin, COALESCE(rolpassword, ''), concat_ws(' ',"
        " CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,"
        " CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END,"
        " CASE WHEN rolbypassrls THEN 'BYPASSRLS' END)"
        " FROM pg_authid WHERE rolname !~ '[\\t\\n]';\n"
        + divider
        + "SELECT datname, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT')"
        " FROM pg_database WHERE datname !~ '[\\t\\n]';\n"
        + divider
        + "SELECT d.datname, pg_get_userbyid(a.grantee), a.privilege_type FROM pg_database d,"
        " LATERAL aclexplode(d.datacl) a WHERE a.grantee <> 0 AND d.datname !~ '[\\t\\n]';\n"
        + divider
        + "SELECT name, setting FROM pg_file_settings"
        " WHERE sourcefile ~ '/postgresql\\.auto\\.conf$' AND setting !~ '[\\t\\n]' ORDER BY seqno;\n"
    )
    blocks = execute(statements).split(_MARK + "\n")
    roles = {row[0]: Role(row[1] == "t", row[2], row[3].split()) for row in _rows(blocks[0])}
    databases = {row[0]: Database(row[1], row[2] == "t") for row in _rows(blocks[1])}
    grants: Dict[Tuple[str, str], FrozenSet[str]] = {}
    for name, role, privilege in _rows(blocks[2]):
        grants[(name, role)] = grants.get((name, role), frozenset()) | {privilege}
    present = [name for name in schemas_of if name in databases]
    settings = {row[0]: row[1] for row in _rows(blocks[3])}
    return State(roles, databases, grants, _schema_grants(present), settings)


def _schema_grants(names: List[str]) -> FrozenSet[Tuple[str, str]]:
    """Who may create in schema public, per database, by a grant of their own."""
    if not names:
        return frozenset()
    statements = ""
    for name in names:
        statements += (
            "\\connect {}\n"
            "SELECT current_database(), pg_get_userbyid(a.grantee) FROM pg_namespace n, LATERAL aclexplode(n.nspacl) a"
            " WHERE n.nspname = 'public' AND a.grantee <> 0 AND a.privilege_type = 'CREATE';\n"
        ).format(identifier(name))
    return frozenset((row[0], row[1]) for row in _rows(execute(statements)) if len(row) == 2)


_EXTENSION = "NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = o.oid AND e.deptype = 'e')"
_OURS_NOT = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
# What belongs to something else (the sequence of a column, the type of a table) follows its owner.
_OBJECTS = (
    "SELECT CASE o.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'"
    " WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, format('%I.%I', n.nspname, o.relname),"
    " format('%I', pg_get_userbyid(o.relowner)) FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace"
    " WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {ours} AND {extension}"
    " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = o.oid AND d.deptype IN ('a', 'i') AND o.relkind = 'S')"
    " UNION ALL SELECT 'SCHEMA', format('%I', n.nspname), format('%I', pg_get_userbyid(n.nspowner))"
    " FROM pg_namespace n, LATERAL (SELECT n.oid) o WHERE {ours} AND n.nspname <> 'public' AND {extension}"
    " UNION ALL SELECT CASE WHEN current_setting('server_version_num')::int < 110000 THEN 'FUNCTION' ELSE 'ROUTINE' END,"
    " o.oid::regprocedure::text, format('%I', pg_get_userbyid(o.proowner))"
    " FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace WHERE {ours} AND {extension}"
    " UNION ALL SELECT CASE o.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%I.%I', n.nspname, o.typname),"
    " format('%I', pg_get_userbyid(o.typowner)) FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace"
    " WHERE (o.typtype IN ('d', 'e', 'r') OR o.typtype = 'c' AND EXISTS"
    " (SELECT 1 FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c')) AND {ours} AND {extension}"
).format(ours=_OURS_NOT, extension=_EXTENSION)
_OBJECT_KINDS = frozenset(
    [
        "TABLE",
        "VIEW",
        "MATERIALIZED VIEW",
        "SEQUENCE",
        "FOREIGN TABLE",
        "SCHEMA",
        "ROUTINE",
        "FUNCTION",
        "DOMAIN",
        "TYPE",
    ]
)
Owned = Tuple[str, str, str]
"""An object in a database: its kind, its name and its owner, both quoted."""


def objects(database: str) -> List[Owned]:
    """What is in a database, without extensions and the system's own. Raises StepFault."""
    rows = _rows(execute(_OBJECTS + ";\n", database=database))
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and row[0] in _OBJECT_KINDS]


def giving(owned: List[Owned]) -> str:
    """Statements that give each object to its owner."""
    return "".join("ALTER {} {} OWNER TO {};\n".format(*one) for one in owned)


def sizes() -> Dict[str, int]:
    """Bytes of the databases that can be connected to. Raises StepFault."""
    out = execute(
        "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname !~ '[\\t\\n]' AND datallowconn;\n"
    )
    return {row[0]: int(row[1]) for row in _rows(out) if len(row) == 2 and row[1].isdigit()}


def is_empty(database: str) -> bool:
    """True when a database has no table or view of its own. Raises StepFault."""
    out = execute(
        "SELECT COUNT(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';\n",
        database=database,
    )
    return out.strip() == "0"


def dump(database: str, target: int) -> None:
    """Write a compressed dump to a descriptor. Raises StepFault, OSError."""
    argv = process.as_user("postgres", [_program("pg_dump"), "--create", "--dbname", database])
    done = process.run_to_gzip(argv, target, timeout=3600)
    if not done.ok():
        raise StepFault("cannot dump the database {}: {}".format(database, done.reason("pg_dump")))
