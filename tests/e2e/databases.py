"""What the tests of databases ask of a node: as its administrator, and as somebody who only has a login."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass

from lab import Node
from reconciler.store import Tx, open_state
from reconciler.store.queries import databases

from .harness import Stage

ENGINES = ("mariadb", "postgresql")
BOTH = [(server, engine) for server in ("el", "deb") for engine in ENGINES]
"""Each engine on each family of systems."""


def administer(node: Node, engine: str, statements: str, database: str = "") -> str:
    """Run statements as the engine's own administrator; rows as tab-separated lines."""
    if engine == "mariadb":
        return node.run(f"mariadb -N {database}", stdin=statements).stdout
    words = f"psql -XqAtF '\t' -v ON_ERROR_STOP=1 -d {database or 'postgres'} -f -"
    return node.run(f"cd / && runuser -u postgres -- {words}", stdin=statements).stdout


@dataclass(frozen=True)
class Login:
    """A login to a database; `host` "" is the way that a site on the node takes."""

    engine: str
    database: str
    user: str
    password: str
    host: str = ""

    def run(self, node: Node, statement: str) -> subprocess.CompletedProcess[str]:
        """Run a statement from a node."""
        if self.engine == "mariadb":
            where = f"-h {self.host} --protocol=tcp" if self.host else "--protocol=socket"
            words = f"MYSQL_PWD={shlex.quote(self.password)} mariadb -N --connect-timeout=5 -u {self.user} {where} {self.database}"
        else:
            where = self.host or "127.0.0.1"
            words = (
                f"PGPASSWORD={shlex.quote(self.password)} PGCONNECT_TIMEOUT=5 psql -XqAtF '\t' -v ON_ERROR_STOP=1"
                f" -h {where} -U {self.user} -d {self.database} -f -"
            )
        return node.run(f"cd / && {words}", stdin=statement, check=False)

    def ask(self, node: Node, statement: str) -> str:
        """What a statement that must succeed prints."""
        done = self.run(node, statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, node: Node, statement: str = "SELECT 1;") -> str:
        """The fault of a statement that must fail."""
        done = self.run(node, statement)
        assert done.returncode != 0, done.stdout
        return done.stderr


def password(stage: Stage, name: str) -> str:
    """The generated password of a Database, from the state directory."""

    def read(tx: Tx) -> str:
        row = databases.get(tx, name)
        assert row is not None, name
        return databases.password_of(tx, row.id).reveal()

    with open_state(stage.state) as store:
        return store.read(read)


def word(purpose: str, engine: str) -> str:
    """A name of a database, its login and its manifest."""
    return f"{purpose}{engine[:2]}"
