"""The program as a person meets it: help, suggestions, exit codes, forms of output."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reconciler.cli.main import _VERBS, program
from tests.e2e.harness import PROGRAM, Fleet, Stage, wait_for

VERBS = [
    *[(verb,) for verb in _VERBS],
    ("deployments", "show"),
    ("source", "accept"),
    *[("servers", word) for word in ("add-key", "enroll", "setup-script", "list", "forget")],
]
ESCAPE = "\x1b["


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_explains_itself(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(program, [*words, "-h"], prog_name="reconciler")
    assert said.exit_code == 0
    assert said.output.startswith("Usage: reconciler " + " ".join(words))
    assert len(said.output.splitlines()) > 4
    assert CliRunner().invoke(program, [*words, "--help"], prog_name="reconciler").output == said.output


def test_the_program_lists_its_verbs_and_its_version(stage: Stage) -> None:
    said = stage.run("--help")
    for verb, words in _VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(words)}", said.out, re.MULTILINE), verb
    assert re.fullmatch(r"reconciler, version \S+\n", stage.run("--version").out)


def test_mistyped_words_are_met_with_a_suggestion(stage: Stage) -> None:
    assert "did you mean 'deployments'?" in stage.run("deploymnets", code=2).err
    assert "No such command" in stage.run("frobnicate", code=2).err
    assert "--detailed-exitcode" in stage.run("plan", "--detailed-exit-code", code=2).err
    assert "did you mean 'web1'?" in stage.run("servers", "setup-script", "web2", code=1).err
    assert "nothing is recorded under 'Site/shpo'" in stage.run("status", "Site/shpo", code=1).err


def test_no_colours_reach_a_file_or_a_pipe(stage: Stage) -> None:
    folder = str(stage.fleet.folder)
    for words in (("plan",), ("status",), ("deployments",), ("servers", "list"), ("validate", folder)):
        assert ESCAPE not in stage.run(*words).text


def test_colours_reach_a_terminal_unless_switched_off(stage: Stage) -> None:
    assert ESCAPE in on_a_terminal(stage, "plan")[1]
    assert ESCAPE not in on_a_terminal(stage, "plan", "--no-color")[1]
    assert ESCAPE not in on_a_terminal(stage, "plan", NO_COLOR="1")[1]


def on_a_terminal(stage: Stage, *words: str, answer: str = "", **variables: str) -> tuple[int, str]:
    """Exit code and output of a program whose streams are a terminal, which types `answer` when asked."""
    parent, child = pty.openpty()
    running = subprocess.Popen(
        [PROGRAM, *words],
        env={**stage.environment(), "TERM": "xterm-256color", **variables},
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    said = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
        if answer and b"accepted" in said:
            os.write(parent, answer.encode() + b"\n")
            answer = ""
    os.close(parent)
    return running.wait(30), said.decode()


def test_an_apply_asks_and_takes_no_for_an_answer(stage: Stage) -> None:
    code, said = on_a_terminal(stage, "apply", "--no-refresh", answer="no")
    assert code == 6
    assert "nothing was changed" in said
    assert "Traceback" not in said
    assert stage.deployments() == []


def test_an_apply_that_can_ask_nobody_says_so(stage: Stage) -> None:
    assert "give --yes" in stage.run("apply", "--no-refresh", code=2).err
    assert "needs --yes" in stage.run("apply", "--output", "json", code=2).err
    assert stage.deployments() == []


def test_json_outputs_have_their_keys(stage: Stage, tmp_path: Path) -> None:
    plan = stage.run("plan", "--output", "json").json
    assert {"format_version", "resource_changes", "resource_drift", "timestamp"} <= plan.keys()
    assert {"address", "change", "type", "name"} <= plan["resource_changes"][0].keys()
    assert stage.run("plan", "--output", "json", "--detailed-exitcode", code=2).json.keys() == plan.keys()
    done = stage.run("init", "--output", "json", "--state", str(tmp_path / "other")).json
    assert done.keys() == {"folder", "database", "key", "lineage", "created", "existing"}
    valid = stage.run("validate", str(stage.fleet.folder), "--output", "json").json
    assert valid == {"valid": True, "resources": 5, "problems": []}
    assert stage.run("status", "--output", "json").json == []
    assert stage.run("deployments", "--output", "json").json == []
    assert stage.run("servers", "list", "--output", "json").json == []
    drift = stage.run("drift", "--output", "json").json
    assert drift == {"asked": [], "unreachable": {}, "drift": [], "ignored": [], "expired": []}

    # nothing is enrolled, so everything that needs a node fails, and says so in each form
    applied = stage.apply("--output", "json", code=1).json
    assert applied.keys() == {
        "commit", "confirmed", "changes", "drift", "failed", "unreachable", "problems", "results", "held",
    }  # fmt: skip
    assert applied["results"][0].keys() == {
        "address", "action", "state", "message", "hint", "deployment", "seconds",
    }  # fmt: skip
    status = stage.run("status", "--output", "json", code=1).json
    assert status[0].keys() == {
        "address", "server", "state", "revision", "ready", "conditions", "lastDeployment",
    }  # fmt: skip
    assert status[0]["conditions"][0].keys() == {
        "type", "status", "reason", "message", "observedRevision", "lastTransitionTime",
    }  # fmt: skip
    listed = stage.run("deployments", "--output", "json").json
    assert listed[0].keys() == {
        "id", "resource", "status", "trigger", "actor", "branch", "commit", "sourceBranch", "sourceCommit",
        "plan", "apply", "corrective", "reason", "started", "finished",
    }  # fmt: skip
    assert listed[0].keys() | {"stdout", "stderr"} == stage.deployment(listed[0]["id"]).keys()
    rows = stage.run("servers", "list", "--output", "json").json
    assert rows[0].keys() == {"name", "address", "port", "os", "status", "enrolled", "agent"}


def test_a_server_that_is_not_enrolled_is_told_how_to_be(stage: Stage) -> None:
    done = stage.apply(code=1)
    assert "the node is not enrolled: its host key is not known" in done.out
    assert "reconciler servers enroll web1" in done.out
    assert "Apply incomplete! Resources: 2 added, 0 changed, 0 destroyed. 3 failed." in done.out
    status = stage.status()
    assert status["User/ada"]["ready"] == "True"
    assert status["Site/shop"]["state"] == "error"
    assert stage.condition("Site/shop", "Stalled") == "True/NeedsAttention"
    assert stage.planned() == {
        address: ["update"] for address in ("Server/web1", "Database/shop", "Site/shop")
    }


def test_a_plan_of_two_commits_needs_no_state_no_database_and_no_ssh(stage: Stage, tmp_path: Path) -> None:
    stage.fleet.change("Site", "shop", php={"memoryLimit": "256M"})
    stage.fleet.commit()
    environment = {**stage.environment(), "RECONCILER_STATE": str(tmp_path / "none")}
    script = (
        "import sys, atexit\n"
        "sys.argv = ['reconciler', 'plan', '--from', 'HEAD~1', '--to', 'HEAD', '--detailed-exitcode']\n"
        "slow = ('sqlalchemy', 'asyncssh', 'alembic', 'cryptography')\n"
        "atexit.register(lambda: print('IMPORTED', [m for m in slow if m in sys.modules]))\n"
        "from reconciler.cli.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert '~ memoryLimit = "128M" -> "256M"' in done.stdout
    assert "Plan: 0 to add, 1 to change, 0 to destroy." in done.stdout
    assert "IMPORTED []" in done.stdout
    assert not (tmp_path / "none").exists()


def test_help_imports_next_to_nothing(stage: Stage) -> None:
    script = (
        "import sys, atexit\nsys.argv = ['reconciler', '--help']\n"
        "slow = ('sqlalchemy', 'asyncssh', 'pydantic', 'git', 'yaml', 'jinja2', 'rich')\n"
        "atexit.register(lambda: print('IMPORTED', [m for m in slow if m in sys.modules]))\n"
        "from reconciler.cli.main import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "IMPORTED []" in done.stdout


@pytest.mark.parametrize("words", [("plan",), ("plan", "--output", "json"), ("deployments",), ("--help",)])
def test_a_reader_that_goes_away_is_no_accident(stage: Stage, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PROGRAM, *words],
        env=stage.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_an_apply_goes_on_when_its_reader_goes_away(stage: Stage) -> None:
    running = stage.start("apply", "--yes")
    assert running.stdout is not None
    assert running.stderr is not None
    for line in running.stdout:
        if line == "Server/web1: Creating...\n":
            break
    running.stdout.close()
    assert running.wait(60) == 1
    assert running.stderr.read() == ""
    running.stderr.close()
    assert {d["status"] for d in stage.deployments()} == {"success", "failed"}
    assert stage.count("deployments", "status IN ('pending', 'running')") == 0


def test_an_apply_whose_plan_nobody_reads_changes_nothing(stage: Stage) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PROGRAM, "apply", "--yes"],
        env=stage.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    assert stage.deployments() == []


def test_completion_works_in_bash(stage: Stage) -> None:
    script = stage.run("completion", "bash").out
    commands = (
        "COMP_WORDS=(reconciler dep); COMP_CWORD=1; _reconciler_completion reconciler dep reconciler; "
        'echo "${COMPREPLY[@]}"; '
        "COMPREPLY=(); COMP_WORDS=(reconciler plan --det); COMP_CWORD=2; _reconciler_completion reconciler --det plan; "
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{commands}"],
        env={**stage.environment(), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "deployments"
    assert set(second.split()) == {"--detail", "--detailed-exitcode"}
    for shell in ("zsh", "fish"):
        assert "reconciler" in stage.run("completion", shell).out


def test_ctrl_c_at_the_question_changes_nothing(stage: Stage) -> None:
    parent, child = pty.openpty()
    # setsid --ctty makes the terminal the program's own, so that typing Ctrl-C there means it
    running = subprocess.Popen(
        ["setsid", "--ctty", "--wait", PROGRAM, "apply", "--no-refresh"],
        env={**stage.environment(), "TERM": "dumb"},
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    said = b""

    def asked() -> bool:
        nonlocal said
        said += os.read(parent, 65536)
        return b"accepted" in said

    wait_for(asked)
    os.write(parent, b"\x03")
    assert running.wait(20) == 130
    os.close(parent)
    assert stage.deployments() == []


def test_a_saved_plan_names_the_command_that_applies_it(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "plan file"
    said = stage.run("plan", "-o", str(file))
    assert f"reconciler apply {file}" in said.out.replace("'", "").replace('"', "")
    assert json.loads(file.read_text())["format"] == "reconciler-plan"
    assert "is a directory" in stage.run("plan", "-o", str(tmp_path), code=2).err.lower()
    missing = tmp_path / "no" / "plan"
    assert "cannot write" in stage.run("plan", "-o", str(missing), code=1).err


def test_an_apply_says_what_it_had_to_leave_and_status_lists_it(stage: Stage, tmp_path: Path) -> None:
    """Nobody listens where the application's repository is to be."""
    for kind, name in (("Site", "shop"), ("Database", "shop"), ("Server", "web1")):
        stage.fleet.drop(kind, name)
    stage.fleet.commit()
    stage.apply()
    server: dict[str, Any] = {
        "address": "198.18.0.99",
        "os": "alma_9",
        "sshKey": "fleet",
        "software": {"php": ["8.2"]},
    }
    stage.fleet.put("Server", "web1", suspend=True, **server)
    away = {"repository": "ssh://git@127.0.0.1:1/shop.git"}
    stage.site("shop", "web1", source=away)
    stage.fleet.commit()
    said = stage.apply("--no-refresh", code=1)
    assert "1 resource cannot be applied now; everything else matches" in said.out
    stage.fleet.put("User", "grace", email="grace@example.test")
    stage.fleet.commit()
    said = stage.apply("--no-refresh", code=1)
    assert "Warning: Site/shop is left as it is: spec.source: no remote of the application's" in said.out
    assert said.out.endswith("1 added, 0 changed, 0 destroyed. 1 left as it is.\n")
    report = stage.apply("--no-refresh", "--output", "json", code=1).json
    assert report["held"].keys() == {"Site/shop"}
    found = stage.status()["Site/shop"]
    assert (found["ready"], found["state"]) == ("Unknown", None)
    # another fleet of the same state has no say in it
    other = Fleet(tmp_path / "other")
    other.put("User", "grete", email="grete@example.test")
    other.commit()
    words = ("--no-refresh", "--fleet", str(other.folder), "--fleet-name", "other")
    stage.run("apply", "--yes", *words)
    assert "Site/shop" in stage.status()

    stage.fleet.drop("Site", "shop")
    stage.fleet.commit()
    stage.apply("--no-refresh")
    assert "Site/shop" not in stage.status()
