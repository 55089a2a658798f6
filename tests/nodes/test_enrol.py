"""The set-up script as a text, without a server."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest

from reconciler.errors import SettingsFault
from reconciler.nodes import agentzip, keys
from reconciler.nodes.agentzip import AgentProgram
from reconciler.nodes.enrol import render_setup_script

PUBLIC = keys.generate().public
PROGRAM = AgentProgram(bytes(range(256)) * 9, "d" * 64)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_script_is_valid_for_the_shells_of_servers(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} missing")
    script = render_setup_script(PUBLIC, PROGRAM)
    checked = subprocess.run(
        [shell, "-n"], input=script, text=True, capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_script_carries_the_program_and_the_key_and_no_more_of_the_template() -> None:
    script = render_setup_script(PUBLIC, PROGRAM)
    assert "{{" not in script
    body = script.split("<<'END_OF_AGENT'\n")[1].split("\nEND_OF_AGENT")[0]
    assert base64.b64decode(body) == PROGRAM.data
    assert PROGRAM.sha256 in script
    assert " ".join(PUBLIC.split()[:2]) in script


def test_a_comment_of_the_key_cannot_become_a_command() -> None:
    bare = " ".join(PUBLIC.split()[:2])
    script = render_setup_script(f"{bare} x'; touch /evil; '", PROGRAM)
    assert "evil" not in script
    with pytest.raises(SettingsFault):
        render_setup_script(f"{bare}\n{bare}", PROGRAM)


def test_nothing_runs_before_the_whole_script_has_arrived() -> None:
    script = render_setup_script(PUBLIC, PROGRAM)
    half = script[: script.index("END_OF_AGENT")]
    ran = subprocess.run(["sh"], input=half, text=True, capture_output=True, timeout=30, check=False)
    assert ran.stdout == ""
    assert script.rstrip().splitlines()[-1] == "main </dev/null"


def test_the_programs_own_agent_is_the_default() -> None:
    assert agentzip.build().sha256 in render_setup_script(PUBLIC)
