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
    """A role: may it log in, and its stored verifier (empty when it has no password)."""

    login: bool
    verifier: str


class Database(NamedTuple):
    """A database: its owner, and whether everybody may connect."""

    owner: str
    public: bool


class State(NamedTuple):
    """What the cluster holds. Grants: (database, role) to privileges; `schema` those who hold all on schema public."""

    roles: Dict[str, Role]
    databases: Dict[str, Database]
    grants: Dict[Tuple[str, str], FrozenSet[str]]
    schema: FrozenSet[Tuple[str, str]]


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
        "SELECT rolname, rolcanlogin, COALESCE(rolpassword, '') FROM pg_authid WHERE rolname !~ '[\\t\\n]';\n"
        + divider
        + "SELECT datname, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT')"
        " FROM pg_database WHERE datname !~ '[\\t\\n]';\n"
        + divider
        + "SELECT d.datname, pg_get_userbyid(a.grantee), a.privilege_type FROM pg_database d,"
        " LATERAL aclexplode(d.datacl) a WHERE a.grantee <> 0 AND d.datname !~ '[\\t\\n]';\n"
    )
    blocks = execute(statements).split(_MARK + "\n")
    roles = {row[0]: Role(row[1] == "t", row[2]) for row in _rows(blocks[0])}
    databases = {row[0]: Database(row[1], row[2] == "t") for row in _rows(blocks[1])}
    grants: Dict[Tuple[str, str], FrozenSet[str]] = {}
    for name, role, privilege in _rows(blocks[2]):
        grants[(name, role)] = grants.get((name, role), frozenset()) | {privilege}
    present = [name for name in schemas_of if name in databases]
    return State(roles, databases, grants, _schema_grants(present))


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
