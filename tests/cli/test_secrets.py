"""`reconciler secrets`, and what plans say and keep of encrypted values."""

from __future__ import annotations

import subprocess
from pathlib import Path

from reconciler.kit.secret import Secret
from reconciler.secrets import age
from reconciler.secrets.age import AgeIdentity
from reconciler.store import backup, open_state
from reconciler.store.identity import get, put
from reconciler.store.state import DATABASE
from tests.e2e.harness import PROGRAM, Stage

CANARY = "canary-W3-encrypted"


def encrypt(stage: Stage, value: bytes, *words: str, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [PROGRAM, "secrets", "encrypt", *words],
        input=value,
        env=stage.environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def identity(stage: Stage) -> AgeIdentity:
    with open_state(stage.state) as store:
        sealed = store.read(lambda tx: get(tx, "age_identity"))
        assert sealed is not None
        return AgeIdentity(
            store.read(lambda tx: tx.box.open(sealed, table="meta", row_id="age_identity", column="value"))
        )


def test_what_encrypt_prints_the_daemon_opens_and_says_for_whom_it_is(stage: Stage) -> None:
    team = AgeIdentity.generate()
    recipient = stage.run("secrets", "recipient").out.strip()
    text, said = encrypt(stage, CANARY.encode() + b"\n", "-r", team.public)
    assert identity(stage).open(text) == team.open(text) == Secret(CANARY)
    assert said == f"Encrypted for {recipient}, {team.public}\n"
    several, _ = encrypt(stage, b"one\ntwo\n")
    assert identity(stage).open(several) == Secret("one\ntwo\n"), "of several lines the last ends too"


def test_the_recipient_is_the_same_each_time_and_survives_a_backup(stage: Stage, tmp_path: Path) -> None:
    recipient = stage.run("secrets", "recipient").out
    assert recipient.startswith("age1")
    backup.copy(stage.state / DATABASE, tmp_path / "copy")
    (stage.state / DATABASE).write_bytes((tmp_path / "copy").read_bytes())
    assert stage.run("secrets", "recipient").out == recipient


def test_a_state_directory_from_before_gets_an_identity_when_it_is_asked_for(stage: Stage) -> None:
    recipient = stage.run("secrets", "recipient").out
    stage.fleet.change("Site", "shop", env={"TOKEN": {"age": encrypt(stage, b"x")[0]}})
    stage.fleet.commit()
    with open_state(stage.state) as store:
        import sqlalchemy as sa

        store.write(lambda tx: tx.connection.execute(sa.text("DELETE FROM meta WHERE key = 'age_identity'")))
    said = stage.run("plan", code=1)
    assert "no age identity yet; `reconciler secrets recipient` makes one" in said.text
    again = stage.run("secrets", "recipient").out
    assert again.startswith("age1")
    assert again != recipient
    assert "is not encrypted for this daemon" in stage.run("plan", code=1).text


def test_a_machine_without_a_state_directory_encrypts_for_the_keys_that_are_named(
    stage: Stage, tmp_path: Path
) -> None:
    text, _ = encrypt(stage, b"v", "--state", str(tmp_path / "none"), "-r", identity(stage).public)
    assert identity(stage).open(text) == Secret("v")
    _, said = encrypt(stage, b"v", "--state", str(tmp_path / "none"), code=1)
    assert "there is no state directory" in said


def test_values_that_cannot_be_are_refused(stage: Stage) -> None:
    for value, words, why in (
        (b"", (), "there is no value"),
        (b"\n", (), "there is no value"),
        (b"\xff", (), "not UTF-8"),
        (b"x" * 20_000, (), "more than 16384 bytes"),
        (b"x", ("-r", "age1none"), "is no public key"),
    ):
        out, said = encrypt(stage, value, *words, code=1)
        assert why in said
        assert not out


def test_no_form_of_a_plan_holds_the_value_and_none_but_the_recorded_state_needs_the_key(
    stage: Stage, tmp_path: Path
) -> None:
    base = stage.fleet.git("rev-parse", "HEAD")
    stage.fleet.change("Site", "shop", env={"TOKEN": {"age": encrypt(stage, CANARY.encode())[0]}})
    stage.fleet.commit()
    said = stage.run("plan", "--detail").text
    assert "(sensitive value)" in said
    for form in ("json", "markdown"):
        said += stage.run("plan", "--output", form).text
    stage.run("plan", "-o", str(tmp_path / "plan"))
    said += (tmp_path / "plan").read_text()
    assert "BEGIN AGE" in (tmp_path / "plan").read_text()
    (stage.state / "app.key").rename(tmp_path / "app.key")
    said += stage.run("validate", str(stage.fleet.folder)).text
    said += stage.run("plan", "--from", base, "--to", "HEAD", "--detail").text
    assert "env.TOKEN" in said
    assert CANARY not in said


def test_a_value_for_others_stops_its_resource_with_its_place_and_the_others_go_on(stage: Stage) -> None:
    theirs = age.encrypt(Secret(CANARY), [AgeIdentity.generate().public])
    stage.site("blog", "web1", env={"TOKEN": {"age": theirs}})
    stage.fleet.commit()
    said = stage.run("plan", code=1)
    assert "site-blog.yaml:11:7: spec.env.TOKEN is not encrypted for this daemon" in said.text
    assert "Site/shop" in said.out
    assert "Traceback" not in said.text


def test_a_damaged_identity_is_told_as_such(stage: Stage) -> None:
    with open_state(stage.state) as store:
        store.write(
            lambda tx: put(
                tx, "age_identity", tx.box.seal("none", table="meta", row_id="age_identity", column="value")
            )
        )
    assert "age identity is not a private key of age" in stage.run("secrets", "recipient", code=1).err
