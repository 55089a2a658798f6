"""The conversation over pipes with the real program file, under every Python of this machine."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from reconciler.nodes import agentzip

from .building import bundle, directory, file, section, sha, symlink
from .conftest import VERSIONS, python_of
from .talking import Here, Refused, Talk, ulid


@pytest.fixture(params=VERSIONS)
def node(request: pytest.FixtureRequest, tmp_path: Path, program: Path) -> Here:
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} on this machine")
    return Here(tmp_path / "node", program, python)


@pytest.fixture(params=["3.6", "now"])
def either(request: pytest.FixtureRequest) -> Here:
    """A folder node served by the oldest Python, and by that of the tests."""
    found = request.getfixturevalue("oldest" if request.param == "3.6" else "here")
    assert isinstance(found, Here)
    return found


BODY, OTHER = b"first \xff\n", b"\x00" * 5_000_000


def wanted(body: bytes = BODY) -> dict[str, object]:
    return bundle(
        section("Server/web1", directory("/etc/panel/fpm"), file("/etc/panel/fpm/a.conf", body)),
        section("Site/shop", symlink("/etc/nginx/shop", "../panel/fpm/a.conf"), needs=("Server/web1",)),
    )


def test_a_bundle_goes_from_nothing_to_in_sync_and_drift_is_seen(node: Here) -> None:
    with node.talk() as talk:
        hello = talk.ask("hello", protocol=1)
        assert hello["agent"] == agentzip.build().sha256
        assert (hello["bundle"], hello["running"], hello["fence"]) == (None, None, 0)
        assert hello["facts"]["kernel"]
        outcome = talk.apply(1, wanted(OTHER), OTHER, fence=7)
        assert (outcome["state"], outcome["deployment"]) == ("succeeded", ulid(1))
        assert outcome["sections"]["Server/web1"] == {
            "state": "succeeded",
            "changed": 2,
            "message": "",
            "kept": [],
        }
        assert node.path("/etc/panel/fpm/a.conf").read_bytes() == OTHER
        assert node.path("/etc/nginx/shop").read_bytes() == OTHER
        numbers = [event["n"] for event in talk.events]
        assert numbers == list(range(1, len(numbers) + 1))
        assert (talk.events[0]["type"], talk.events[-1]["type"]) == ("apply_started", "apply_done")

        digest = talk.ask("hello", protocol=1)["bundle"]
        assert talk.ask("check", digest=digest) == {"in_sync": True, "differences": []}
        node.path("/etc/panel/fpm/a.conf").chmod(0o600)
        node.path("/etc/nginx/shop").unlink()
        drift = talk.ask("check", digest=digest)
        assert not drift["in_sync"]
        assert [(d["section"], d["key"], d["action"]) for d in drift["differences"]] == [
            ("Server/web1", "file:/etc/panel/fpm/a.conf", "update"),
            ("Site/shop", "symlink:/etc/nginx/shop", "create"),
        ]
        assert drift["differences"][0]["changes"] == [{"field": "mode", "from": "0600", "to": "0644"}]
        assert len(talk.ask("check", digest=digest, sections=["Site/shop"])["differences"]) == 1

    with node.talk() as talk:
        hello = talk.ask("hello", protocol=1)
        assert (hello["bundle"], hello["fence"]) == (digest, 7)
        again = talk.apply(2, wanted(OTHER), fence=7)
        assert [section["changed"] for section in again["sections"].values()] == [1, 1]
        assert talk.ask("apply", deployment=ulid(3), digest=digest, sections=None, fence=7)["sections"] == {
            name: {"state": "unchanged", "changed": 0, "message": "", "kept": []}
            for name in again["sections"]
        }
        with pytest.raises(Refused, match="fenced"):
            talk.ask("apply", deployment=ulid(4), digest=digest, sections=None, fence=6)


def test_a_bad_line_is_answered_and_the_conversation_goes_on(node: Here) -> None:
    with node.talk() as talk:
        for line in (
            b"{\n",
            b"[]\n",
            b"\xff\xfe\n",
            b'{"id": 1, "op": NaN}\n',
            b"[" * 100_000 + b"\n",
            b"\n",
        ):
            talk.send(line)
            answer = talk.receive()
            assert (answer["id"], answer["ok"], answer["error"]["code"]) == (None, False, "bad_request"), (
                line[:20]
            )
        for request in (
            {"op": "hello"},
            {"id": 4},
            {"id": 4, "op": "exec"},
            {"id": 4, "op": "bye", "more": 1},
        ):
            talk.send(json.dumps(request).encode() + b"\n")
            assert talk.receive()["error"]["code"] == "bad_request", request
        assert talk.ask("hello", protocol=1)["protocol"] == 1
        with pytest.raises(Refused, match="bad_request"):
            talk.ask("hello", protocol=2)


def test_a_line_over_the_limit_is_refused_whole(either: Here) -> None:
    with either.talk() as talk:
        talk.send(b'{"id": 1, "op": "hello", "x": "' + b"a" * (20 * 1024 * 1024) + b'"}\n')
        assert talk.receive()["error"]["code"] == "bad_request"
        assert talk.ask("hello", protocol=1)["protocol"] == 1


def test_bye_ends_the_program_and_so_does_the_end_of_input(either: Here) -> None:
    with either.talk() as talk:
        assert talk.ask("bye") == {}
        assert talk.process.wait(20) == 0
    with either.talk() as talk:
        assert talk.process.stdin is not None
        talk.process.stdin.close()
        assert talk.process.wait(20) == 0


def test_bodies_are_verified_and_kept_until_they_are_used(either: Here) -> None:
    with either.talk() as talk:
        digest = str(talk.ask("bundle", bundle=wanted())["digest"])
        prepared = talk.ask("prepare", digest=digest, sections=None)
        assert prepared["wants"] == [sha(BODY)]
        assert [d["action"] for d in prepared["differences"]] == ["create"] * 3
        with pytest.raises(Refused, match="missing_blobs") as caught:
            talk.ask("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)
        assert caught.value.error["wants"] == [sha(BODY)]
        with pytest.raises(Refused, match="announced"):
            talk.ask("blob", sha256=sha(BODY), data=base64.b64encode(b"other").decode(), more=False)
        with pytest.raises(Refused, match="base64"):
            talk.ask("blob", sha256=sha(BODY), data="?!", more=False)
        with pytest.raises(Refused, match="sha256"):
            talk.ask("blob", sha256="../../etc/passwd", data="", more=False)
        talk.blob(BODY, chunk=3)
        spool = either.path("/run/panel/blobs")
        assert [path.name for path in spool.iterdir()] == [sha(BODY)]
        assert oct(spool.stat().st_mode & 0o777) == "0o700"
        assert (
            talk.ask("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)["state"]
            == "succeeded"
        )
        assert list(spool.iterdir()) == []


def test_unknown_bundles_and_deployments_are_named_so(either: Here) -> None:
    with either.talk() as talk:
        for op in ("check", "prepare"):
            with pytest.raises(Refused, match="unknown_bundle"):
                talk.ask(op, digest="0" * 64)
        with pytest.raises(Refused, match="unknown_deployment"):
            talk.ask("status", deployment=ulid(9))
        digest = talk.hand_over(wanted(), BODY)
        with pytest.raises(Refused, match="bad_request"):
            talk.ask("prepare", digest=digest, sections=["Site/other"])


def slow_visudo(node: Here) -> None:
    """A validator that waits until the test lets it go."""
    node.program_on_path("visudo", "until [ -e $root/go ]; do sleep 0.05; done")


def gated() -> dict[str, object]:
    rule = file("/etc/sudoers.d/panel-x", BODY, mode="0440", validate={"type": "sudoers"})
    return bundle(section("Server/web1", directory("/etc/panel/fpm"), rule))


def begin(talk: Talk, number: int) -> None:
    """Start an apply that stands still in its second step."""
    digest = talk.hand_over(gated(), BODY)
    talk.request("apply", deployment=ulid(number), digest=digest, sections=None, fence=1)
    while True:
        event = talk.receive()["event"]
        if event["type"] == "step_started" and event["key"].startswith("file:"):
            return


def test_an_apply_outlives_the_conversation_and_is_found_again(node: Here) -> None:
    slow_visudo(node)
    node.path("/etc/sudoers.d").mkdir()
    with node.talk() as talk:
        begin(talk, 1)
        talk.process.kill()
        talk.process.wait()
    with node.talk() as talk:
        assert talk.ask("hello", protocol=1)["running"] == ulid(1)
        digest = talk.hand_over(gated(), BODY)
        with pytest.raises(Refused, match="busy") as caught:
            talk.ask("apply", deployment=ulid(2), digest=digest, sections=None, fence=1)
        assert caught.value.error["deployment"] == ulid(1)
        talk.request("status", deployment=ulid(1), **{"from": 2})
        node.write("/go", "")
        outcome = talk.answer()
        assert outcome["state"] == "succeeded"
        assert talk.events[0]["n"] == 3
        # The same deployment again starts nothing: the outcome is told once more.
        assert talk.ask("apply", deployment=ulid(1), digest=digest, sections=None, fence=1) == outcome
        assert talk.ask("hello", protocol=1)["running"] is None


def test_a_runner_that_was_killed_is_interrupted_and_applying_again_settles_it(either: Here) -> None:
    slow_visudo(either)
    either.path("/etc/sudoers.d").mkdir()
    with either.talk() as talk:
        begin(talk, 1)
        either.kill_runner()
        outcome = talk.answer()
        assert (outcome["state"], outcome["doubt"]) == ("interrupted", "file:/etc/sudoers.d/panel-x")
        assert outcome["sections"]["Server/web1"]["state"] == "failed"
        either.write("/go", "")
        assert talk.apply(2, gated(), BODY)["state"] == "succeeded"
        assert talk.ask("status", deployment=ulid(1))["state"] == "interrupted"


def test_the_program_replaces_itself_only_by_one_that_starts(either: Here, tmp_path: Path) -> None:
    source = Path(agentzip.__file__).parent.parent / "agent"
    for path in source.rglob("*.py"):
        target = tmp_path / "newer" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "newer" / "more.py").write_text('"""Another version."""\n')
    newer = agentzip.pack(tmp_path / "newer")
    either.program = tmp_path / "panel-ssh-manager"
    either.program.write_bytes(agentzip.build().data)
    with either.talk() as talk:
        for broken in (b"#!/bin/sh\nexit 0\n", b""):
            with pytest.raises(Refused, match="does not start"):
                talk.ask("upgrade", data=base64.b64encode(broken).decode(), sha256=sha(broken))
        with pytest.raises(Refused, match="announced"):
            talk.ask("upgrade", data=base64.b64encode(newer.data).decode(), sha256="0" * 64)
        assert either.program.read_bytes() == agentzip.build().data
        answer = talk.ask("upgrade", data=base64.b64encode(newer.data).decode(), sha256=newer.sha256)
        assert answer == {"agent": newer.sha256}
        # The old one is still in the conversation and still whole.
        assert talk.apply(1, wanted(), BODY)["state"] == "succeeded"
    assert [path.name for path in tmp_path.iterdir() if "new" in path.suffix] == []
    with either.talk() as talk:
        assert talk.ask("hello", protocol=1)["agent"] == newer.sha256


def test_version_and_status_are_for_people(either: Here) -> None:
    assert either.call("version").stdout == agentzip.build().sha256 + "\n"
    with either.talk() as talk:
        talk.apply(1, wanted(), BODY)
    shown = either.call("status").stdout
    assert f"apply    {ulid(1)} succeeded" in shown
    assert either.call("exec", "ls").returncode == 2
    assert either.call("run", "../../x").returncode == 2
    assert either.call("run", ulid(5)).returncode == 1
    assert either.call("run", ulid(1)).returncode == 1


def test_what_was_unpacked_for_a_quick_start_is_never_trusted_blindly(either: Here) -> None:
    with either.talk() as talk:
        assert talk.ask("hello", protocol=1)["agent"] == agentzip.build().sha256
    code = either.path("/var/lib/panel/code") / agentzip.build().sha256
    assert oct(code.stat().st_mode & 0o777) == "0o700"
    module = code / "panel_agent" / "facts.py"
    for broken in (b"import no_such_module\n", b"def (\n", b"\0"):
        module.write_bytes(broken)
        with either.talk() as talk:
            assert talk.ask("hello", protocol=1)["agent"] == agentzip.build().sha256
            assert talk.apply(1, wanted(), BODY)["state"] == "succeeded"
        assert module.read_bytes() != broken
    either.program = either.root / "panel-ssh-manager"
    either.program.write_bytes(agentzip.build().data + b"")
    code.chmod(0o777)
    (code / "panel_agent").chmod(0o777)
    module.write_bytes(b"raise SystemExit(9)\n")
    with either.talk() as talk:
        assert talk.ask("hello", protocol=1)["protocol"] == 1
