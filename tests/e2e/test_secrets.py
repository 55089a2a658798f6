"""Secrets are used on the way and shown nowhere: passwords, the key, the login key, the values of a site's `env`."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.kit.secret import Secret
from reconciler.secrets import age
from reconciler.store import Tx, identity, open_state
from reconciler.store.queries import databases, ssh_keys
from reconciler.store.state import DATABASE

from .harness import Stage

ENV = "canary-Zq81-env-value"
ENCRYPTED = "canary-Kw52-encrypted-value"


@pytest.fixture(scope="module")
def kept(stage: Stage) -> dict[str, str]:
    """The secrets of a fleet that has one of each, and verbs that had every reason to show them."""
    for server, engine in (("el", "mariadb"), ("deb", "postgresql")):
        stage.site(f"vault{server}", server, env={"API_TOKEN": ENV, "SEALED": encrypted(stage)})
        stage.database(f"vault{server}", server, site=f"vault{server}", engine=engine)
    stage.fleet.commit()
    stage.run("plan", "--detail")
    stage.run("plan", "--output", "markdown", "--detail")
    stage.run("plan", "--output", "json")
    with Watching() as watching:
        stage.apply("--detail")
    stage.run("plan", "--from", "HEAD~1", "--to", "HEAD", "--detail")
    # something fails, and something drifts
    for server, node in stage.nodes.items():
        user = stage.user(f"vault{server}")
        node.run(f"echo ruined > /home/{user}/.env")
    stage.run("drift", code=0)
    stage.run("drift", "--output", "json")
    stage.run("plan", "--refresh", "--detail")
    with watching:
        stage.apply()
    stage.fleet.change("Site", "vaultel", env={"API_TOKEN": ENV + "-2", "SEALED": encrypted(stage)})
    stage.fleet.commit()
    for output in ("text", "json", "markdown"):
        stage.run("plan", "--output", output, *(("--detail",) if output != "json" else ()))
    stage.apply("--output", "json")
    stage.run("status")
    stage.run("deployments")
    stage.run("servers", "list")
    for number, deployment in enumerate(stage.deployments()):
        stage.run("deployments", "show", deployment["id"], "--output", "json" if number % 2 else "text")
    with open_state(stage.state) as store:
        row = store.read(lambda tx: ssh_keys.get(tx, "fleet"))
        assert row is not None
        private = store.read(lambda tx: ssh_keys.private_key(tx, row.id))
        passwords = store.read(
            lambda tx: {d.manifest_name: databases.password_of(tx, d.id).reveal() for d in databases.all(tx)}
        )
    assert private is not None
    lines = [line for line in private.reveal().splitlines() if "PRIVATE KEY" not in line]
    key = (stage.state / "app.key").read_text().strip().rpartition(":")[2]
    assert len(passwords) == 2
    return {
        **{f"password of {name}": word for name, word in passwords.items()},
        "APP_KEY": key,
        "encrypted value": ENCRYPTED,
        "private key": lines[len(lines) // 2],
        "seen arguments": "\n".join(sorted(watching.seen)),
    }


def encrypted(stage: Stage, text: str = ENCRYPTED) -> dict[str, str]:
    recipient = stage.run("secrets", "recipient").out.strip()
    return {"age": age.encrypt(Secret(text), [recipient])}


class Watching:
    """Collects the arguments of every process of this machine and its nodes."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()

    def __enter__(self) -> Watching:
        self._stop.clear()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    try:
                        raw = (folder / "cmdline").read_bytes()
                    except OSError:
                        continue
                    self.seen.add(raw.replace(b"\0", b" ").decode("utf-8", "replace"))


def secrets(kept: dict[str, str], *, env: bool = True) -> Iterator[tuple[str, str]]:
    for name, word in kept.items():
        if name != "seen arguments":
            assert len(word) >= 16, name
            yield name, word
    if env:
        yield "env value", ENV


def test_no_output_of_any_verb_holds_a_secret(stage: Stage, kept: dict[str, str]) -> None:
    assert len(stage.transcript) > 25
    for said in stage.transcript:
        for name, word in secrets(kept):
            assert word not in said.text, f"{name} in the output of {said.words}"


def test_a_saved_plan_holds_manifests_but_no_password(
    stage: Stage, kept: dict[str, str], tmp_path: Path
) -> None:
    stage.database("vault-more", "el", site="vaultel", envPrefix="MORE")
    stage.fleet.commit()
    stage.run("plan", "-o", str(tmp_path / "plan"))
    text = (tmp_path / "plan").read_text()
    for name, word in secrets(kept, env=False):
        assert word not in text, name
    stage.apply(str(tmp_path / "plan"))


def test_the_database_file_holds_passwords_and_keys_only_sealed(stage: Stage, kept: dict[str, str]) -> None:
    connection = sqlite3.connect(stage.state / DATABASE)
    text = "\n".join(connection.iterdump())
    connection.close()
    raw = b"".join(path.read_bytes() for path in stage.state.iterdir() if path.name.startswith(DATABASE))
    for name, word in secrets(kept, env=False):
        assert word not in text, name
        assert word.encode() not in raw, name
    assert "vaultel" in text


def test_deployments_and_logs_hold_no_secret(stage: Stage, kept: dict[str, str]) -> None:
    connection = sqlite3.connect(stage.state / DATABASE)
    connection.row_factory = sqlite3.Row
    for table in ("deployments", "server_logs", "events", "conditions", "revisions"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            for name, word in secrets(kept):
                assert word not in str(tuple(row)), f"{name} in {table}"
    connection.close()


@pytest.mark.parametrize("server", ["el", "deb"])
def test_nothing_that_the_agent_keeps_holds_a_secret(stage: Stage, kept: dict[str, str], server: str) -> None:
    node = stage.nodes[server]
    for name, word in secrets(kept):
        for place in ("/var/lib/panel", "/etc/panel", "/var/log/panel", "/tmp", "/run/panel-agent"):
            found = node.run(f"grep -rlF -e '{word}' {place} --exclude-dir=archive", check=False)
            assert found.stdout == "", f"{name}: {found.stdout}"
        journal = node.run(f"journalctl --no-pager -q | grep -cF -e '{word}'", check=False).stdout.strip()
        assert journal == "0", f"{name} in the journal of {server}"
    user = stage.user(f"vault{server}")
    assert ENV in node.read(f"/home/{user}/.env"), "the one place where they belong"
    assert f'SEALED="{ENCRYPTED}"' in node.read(f"/home/{user}/.env")
    assert kept[f"password of vault{server}"] in node.read(f"/home/{user}/.env")


def test_no_process_had_a_secret_among_its_arguments(kept: dict[str, str]) -> None:
    seen = kept["seen arguments"]
    assert "panel-ssh-manager" in seen, "the agents were seen at work"
    for name, word in secrets(kept):
        assert word not in seen, name


def test_a_value_encrypted_again_changes_nothing_on_the_node(stage: Stage, kept: dict[str, str]) -> None:
    stage.in_sync()
    stage.fleet.change("Site", "vaultdeb", env={"API_TOKEN": ENV, "SEALED": encrypted(stage)})
    stage.fleet.commit()
    assert stage.planned() == {"Site/vaultdeb": ["update"]}
    (result,) = stage.applied().values()
    assert (result["state"], result["message"]) == ("succeeded", "0 steps changed on deb")
    stage.in_sync()


def test_without_its_identity_a_site_is_kept_and_the_others_of_its_node_go_on(
    stage: Stage, kept: dict[str, str]
) -> None:
    node, user = stage.nodes["deb"], stage.user("vaultdeb")
    before = node.read(f"/home/{user}/.env")
    with open_state(stage.state) as store:
        lost = store.write(another_identity)
    assert lost is not None
    try:
        stage.fleet.change("Site", "vaultdeb", aliases=["other.vaultdeb.test"])
        stage.site("neighbour", "deb", env={"SEALED": encrypted(stage, "its-own-value")})
        stage.fleet.commit()
        results = stage.applied(code=1)
        assert results["Site/neighbour"]["state"] == "succeeded"
        assert "Site/vaultdeb" not in results
        assert 'SEALED="its-own-value"' in node.read(f"/home/{stage.user('neighbour')}/.env")
        assert node.read(f"/home/{user}/.env") == before
        assert "vaultdeb" not in stage.run("drift", "--output", "json").out, "what cannot be told is no drift"
    finally:
        with open_state(stage.state) as store:
            store.write(lambda tx: identity.put(tx, "age_identity", lost))


def another_identity(tx: Tx) -> str | None:
    """Makes another identity, and gives the one of before, sealed."""
    before = identity.get(tx, "age_identity")
    tx.connection.execute(sa.text("DELETE FROM meta WHERE key = 'age_identity'"))
    identity.ensure_age(tx)
    return before
