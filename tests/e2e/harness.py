"""What the end-to-end tests stand on: a fleet repository, a state directory, real nodes, the installed program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import Lab, Node
from reconciler.store.state import DATABASE

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).parent / "reconciler"
AUTHOR = ("Ada", "ada@example.test")
OS = {"el9": "alma_9", "debian12": "debian_12"}
SELINUX = {"mode": "disabled"}
"""The nodes of the lab are containers, whose kernel has none; tests/vm has a machine that enforces."""
PHP = {"el9": ["8.2", "8.4"], "debian12": ["8.2"]}
NEVER = ("Traceback", "internal fault", "•••MISSING")
"""What no verb may ever print."""


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Fleet:
    """A fleet repository: a file a resource."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            folder.mkdir(parents=True)
            self.git("init", "-q", "-b", "main")

    def git(self, *words: str, author: tuple[str, str] = AUTHOR) -> str:
        env = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": author[0],
            "GIT_AUTHOR_EMAIL": author[1],
            "GIT_COMMITTER_NAME": author[0],
            "GIT_COMMITTER_EMAIL": author[1],
        }
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind.lower()}-{name}.yaml"

    def put(self, kind: str, name: str, /, moved_from: str = "", **spec: object) -> None:
        """Write a manifest, in place of the one of before."""
        metadata: dict[str, object] = {"name": name}
        if moved_from:
            metadata["annotations"] = {"reconciler/moved-from": moved_from}
        manifest = {"apiVersion": "reconciler/v1", "kind": kind, "metadata": metadata, "spec": spec}
        self.path(kind, name).write_text(yaml.safe_dump(manifest, sort_keys=False))

    def change(self, kind: str, name: str, /, **spec: object) -> None:
        """Replace fields of a manifest; None takes one away."""
        path = self.path(kind, name)
        manifest = yaml.safe_load(path.read_text())
        manifest["spec"].update(spec)
        manifest["spec"] = {key: value for key, value in manifest["spec"].items() if value is not None}
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))

    def drop(self, kind: str, name: str) -> None:
        self.path(kind, name).unlink()

    def commit(self, message: str = "Change the fleet", author: tuple[str, str] = AUTHOR) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, author=author)
        return self.git("rev-parse", "HEAD")


@dataclass
class Stage:
    """A fleet, its state directory, and the nodes that its servers are."""

    fleet: Fleet
    state: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    transcript: list[Said] = field(default_factory=list)

    @staticmethod
    def build(folder: Path) -> Stage:
        stage = Stage(Fleet(folder / "fleet"), folder / "state")
        stage.run("init")
        stage.fleet.put("SSHKey", "fleet")
        stage.fleet.put("User", "ada", email=AUTHOR[1], displayName="Ada L.")
        return stage

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")},
            "RECONCILER_STATE": str(self.state),
            "RECONCILER_FLEET": str(self.fleet.folder),
        }

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """The program in the background."""
        return subprocess.Popen(
            [PROGRAM, *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def finish(self, running: subprocess.Popen[str], words: Sequence[str] = (), timeout: float = 240) -> Said:
        """Wait for a program that `start` started."""
        try:
            out, err = running.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            raise
        said = Said(tuple(words), running.returncode, out, err)
        self.transcript.append(said)
        for word in NEVER:
            assert word not in said.text, said
        return said

    def run(self, *words: str, code: int | None = 0, timeout: float = 240) -> Said:
        """Run the installed program to its end; `code` None takes any exit code."""
        said = self.finish(self.start(*words), words, timeout)
        assert code is None or said.code == code, f"{words}: {said.code}\n{said.out}\n{said.err}"
        return said

    def apply(self, *words: str, code: int | None = 0) -> Said:
        """`apply --yes` of what is committed."""
        return self.run("apply", "--yes", *words, code=code)

    def applied(self, *words: str, code: int | None = 0) -> dict[str, Mapping[str, Any]]:
        """`apply --yes --output json`: the results by address."""
        report = self.apply("--output", "json", *words, code=code).json
        return {result["address"]: result for result in report["results"]}

    def planned(self, *words: str, code: int | None = 0) -> dict[str, list[str]]:
        """The actions that the newest commit needs, by address; without no-ops."""
        plan = self.run("plan", "--output", "json", *words, code=code).json
        return {
            change["address"]: change["change"]["actions"]
            for change in plan["resource_changes"]
            if change["change"]["actions"] != ["no-op"]
        }

    def in_sync(self) -> None:
        """Nothing is left to do, and no node differs."""
        said = self.apply()
        assert "No changes. Your infrastructure matches the configuration." in said.out, said.text

    def status(self) -> dict[str, Mapping[str, Any]]:
        return {found["address"]: found for found in self.run("status", "--output", "json", code=None).json}

    def condition(self, address: str, kind: str) -> str:
        """`Status/Reason` of a condition."""
        for condition in self.status()[address]["conditions"]:
            if condition["type"] == kind:
                return f"{condition['status']}/{condition['reason']}"
        return ""

    def deployments(self, address: str = "") -> list[Mapping[str, Any]]:
        """Newest first."""
        narrow = ("--resource", address) if address else ()
        found = self.run("deployments", "--limit", "1000", "--output", "json", *narrow).json
        assert isinstance(found, list)
        return found

    def deployment(self, identity: str) -> Mapping[str, Any]:
        found = self.run("deployments", "show", identity, "--output", "json").json
        assert isinstance(found, dict)
        return found

    def enroll(self, name: str, node: Node) -> None:
        """Declare a node as a server and make it manageable."""
        self.nodes[name] = node
        family = node.image.name.removesuffix("-web")
        self.fleet.put(
            "Server",
            name,
            address=node.ip,
            os=OS[family],
            sshKey="fleet",
            databaseEngines=["mariadb", "postgresql"],
            software={"php": PHP[family]},
            selinux=SELINUX,
        )
        self.fleet.commit(f"Declare {name}")
        identity = str(node.lab.key.private)
        self.run("servers", "enroll", name, "--identity", identity, "--accept-host-key")

    def site(self, name: str, server: str, /, **more: Any) -> None:
        """Declare a site on a server."""
        self.fleet.put(
            "Site", name, **{"server": server, "domain": f"{name}.test", "phpVersion": "8.2", **more}
        )

    def database(self, name: str, server: str, /, **more: Any) -> None:
        """Declare a MariaDB database with a login of its name."""
        word = name.replace("-", "_")
        values = {"server": server, "engine": "mariadb", "name": word, "username": word, **more}
        self.fleet.put("Database", name, **values)

    def row(self, table: str, **where: str) -> dict[str, Any] | None:
        """One row of the database file, read from outside."""
        import sqlite3

        connection = sqlite3.connect(f"file:{self.state / DATABASE}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            condition = " AND ".join(f"{column} = ?" for column in where) or "1"
            found = connection.execute(
                f"SELECT * FROM {table} WHERE {condition}", tuple(where.values())
            ).fetchall()
        finally:
            connection.close()
        assert len(found) < 2, f"{table} {where}: {len(found)} rows"
        return dict(found[0]) if found else None

    def count(self, table: str, condition: str = "1") -> int:
        import sqlite3

        connection = sqlite3.connect(f"file:{self.state / DATABASE}?mode=ro", uri=True)
        try:
            number: int = connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]
        finally:
            connection.close()
        return number

    def user(self, site: str) -> str:
        """The system user of a site."""
        row = self.row("sites", name=site)
        assert row is not None, site
        user: str = row["system_user"]
        return user


def fetch(node: Node, domain: str, path: str = "/", timeout: float = 10) -> tuple[int, str]:
    """Status and body of a page."""
    request = urllib.request.Request(f"http://{node.ip}{path}", headers={"Host": domain})
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, fault.read().decode("utf-8", "replace")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def upload(node: Node, user: str, page: str, folder: str = "public_html") -> None:
    """Put an index.php into a site's folder as its developer would."""
    node.run(f"runuser -u {user} -- sh -c 'cat > /home/{user}/{folder}/index.php'", stdin=page)


def boot(lab: Lab, **images: str) -> dict[str, Node]:
    """Start nodes side by side: `boot(lab, web1="el9-web")`."""
    from lab import ImageMissing
    from tests.lab_fixtures import WEB_UNITS, unavailable

    try:
        nodes = {name: lab.add(name, image) for name, image in images.items()}
    except ImageMissing as error:
        unavailable(str(error))
    lab.up(*nodes.values())
    for node in nodes.values():
        if node.image.name in WEB_UNITS:
            node.wait_active(*WEB_UNITS[node.image.name])
    return nodes


def wait_for(what: Any, seconds: float = 30, every: float = 0.05) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)
    return found


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
