"""What a person or a disk gets wrong: a sentence that says what, where and what to do, never a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.secrets import keyring
from reconciler.store.state import DATABASE
from tests.e2e.harness import PROGRAM, Fleet, Stage


def test_without_a_state_directory_the_way_to_one_is_told(stage: Stage, tmp_path: Path) -> None:
    for words in (
        ("plan",),
        ("apply", "--yes"),
        ("status",),
        ("drift",),
        ("deployments",),
        ("servers", "list"),
    ):
        said = stage.run(*words, "--state", str(tmp_path / "none"), code=1)
        assert "there is no state directory" in said.err
        assert "reconciler init" in said.err


def test_a_file_in_place_of_the_state_directory_is_refused(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (("plan",), ("init",)):
        assert "is a file" in stage.run(*words, "--state", str(tmp_path / "file"), code=2).err


def test_a_folder_that_is_no_repository_is_named(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    said = stage.run("plan", "--fleet", str(tmp_path / "plain"), code=1)
    assert str(tmp_path / "plain") in said.err
    assert "git" in said.err
    said = stage.run("plan", "--fleet", str(tmp_path / "missing"), code=1)
    assert str(tmp_path / "missing") in said.err


def test_a_repository_without_a_commit_is_named(stage: Stage, tmp_path: Path) -> None:
    Fleet(tmp_path / "bare")
    said = stage.run("apply", "--yes", "--fleet", str(tmp_path / "bare"), code=1)
    assert "commit" in said.err
    assert "Hint: " in said.err


def test_a_commit_without_manifests_plans_nothing(stage: Stage, tmp_path: Path) -> None:
    empty = Fleet(tmp_path / "empty")
    (empty.folder / "README.md").write_text("nothing yet\n")
    empty.commit()
    said = stage.run("plan", "--fleet", str(empty.folder))
    assert "No changes." in said.out


def test_an_unknown_revision_is_named(stage: Stage) -> None:
    assert "nowhere" in stage.run("plan", "--rev", "nowhere", code=1).err
    assert "nowhere" in stage.run("plan", "--from", "nowhere", code=1).err


def test_every_mistake_in_the_manifests_is_told_at_once_with_its_place(stage: Stage) -> None:
    stage.fleet.change("Site", "shop", phpVersion=8.2, colour="red")
    stage.fleet.change("Database", "shop", engine="oracle")
    stage.fleet.commit()
    said = stage.run("validate", str(stage.fleet.folder), code=1)
    assert "site-shop.yaml:" in said.out
    assert "database-shop.yaml:" in said.out
    assert "colour" in said.out
    planned = stage.run("plan", code=1)
    assert "site-shop.yaml:" in planned.out
    applied = stage.apply(code=1)
    assert "site-shop.yaml:" in applied.text
    assert "Site/shop" not in stage.status()


def test_only_broken_manifests_are_an_error_with_every_place(stage: Stage) -> None:
    for path in stage.fleet.folder.glob("*.yaml"):
        path.write_text("kind: [\n")
    stage.fleet.commit()
    said = stage.apply(code=1)
    assert "site-shop.yaml:" in said.text


def test_another_key_is_told_from_a_damaged_one(stage: Stage) -> None:
    key = stage.state / keyring.FILE
    kept = key.read_bytes()
    keyring.write_file(stage.state / "other", keyring.generate())
    (stage.state / "other").replace(key)
    said = stage.run("status", code=1)
    assert "APP_KEY" in said.err or "key" in said.err
    assert "Hint: " in said.err
    key.write_text("not a key at all\n")
    assert stage.run("status", code=1).err.startswith("Error: ")
    key.unlink()
    said = stage.run("status", code=1)
    assert "app.key" in said.err
    key.write_bytes(kept)
    key.chmod(0o600)
    assert stage.run("status").err == ""


def test_a_damaged_database_is_named_and_kept(stage: Stage) -> None:
    database = stage.state / DATABASE
    database.write_bytes(b"this is no database" * 500)
    said = stage.run("plan", code=1)
    assert str(database) in said.err
    assert "Hint: " in said.err
    assert database.read_bytes().startswith(b"this is no")


def test_an_unwritable_state_directory_is_named_before_anything_happens(stage: Stage) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a mount of its own")
    state = stage.state
    command = (
        f"mount --bind {state} {state} && mount -o remount,ro,bind {state} && exec {PROGRAM} apply --yes"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command],
        env=stage.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert str(state) in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal fault" not in done.stderr
    assert stage.deployments() == []


def test_what_is_no_saved_plan_is_refused(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "plan"
    assert "cannot read the plan" in stage.apply(str(file), code=1).err
    file.write_text("{}")
    assert "not a saved plan" in stage.apply(str(file), code=1).err
    stage.run("plan", "-o", str(file))
    file.write_text(file.read_text().replace("shop", "sh0p"))
    assert "damaged or altered" in stage.apply(str(file), code=1).err
    stage.run("plan", "--from", "HEAD", "--to", "HEAD", "-o", str(file))
    assert "another database" in stage.apply(str(file), code=4).err


def test_keys_that_do_not_fit_are_refused(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("no key\n")
    (tmp_path / "id").chmod(0o600)
    said = stage.run("servers", "add-key", "web1", "--private-key", str(tmp_path / "id"), code=1)
    assert str(tmp_path / "id") in said.err
    said = stage.run("servers", "add-key", "web1", "--host-key", "nonsense", code=1)
    assert "public key cannot be read: 'nonsense'" in said.err
    key = stage.run("servers", "add-key", "web1")
    assert key.out.startswith("ssh-ed25519 ")
    again = stage.run("servers", "add-key", "web1")
    assert again.out == key.out
    script = stage.run("servers", "setup-script", "web1").out
    assert key.out.split()[1] in script
    assert script.startswith("#!/bin/sh")


def test_an_unknown_deployment_is_named(stage: Stage) -> None:
    assert "there is no deployment" in stage.run("deployments", "show", "01ABC", code=1).err
    assert "is not a deployment id" in stage.run("deployments", "show", "%%", code=1).err
