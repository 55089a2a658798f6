"""The receive hooks are processes that somebody waits for: they import what they need, and tell the daemon first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.app import hook_settings
from reconciler.testing import builders
from reconciler.testing.builders import Repository


class Pushed:
    """A bare repository, a state directory that was never filled, and a push of one changed site."""

    def __init__(self, folder: Path) -> None:
        repo = Repository(folder / "fleet")
        repo.write(builders.fleet_files(1, 1))
        old = repo.commit()
        self.bare = folder / "infra.git"
        repo.git("clone", "-q", "--bare", ".", str(self.bare))
        repo.change("Site", "site1-1", domain="changed.test")
        new = repo.commit()
        repo.git("push", "-q", str(self.bare), "main:next")
        self.given = f"{old} {new} refs/heads/main\n"
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.settings = folder / "hooks.json"

    def run(self, name: str, state: Path | None) -> tuple[str, set[str]]:
        """Run a hook as git does: what it printed, and the top-level modules that it imported."""
        settings = hook_settings.HookSettings(state, follow=0.0)
        self.settings.write_text(hook_settings.written_settings(settings))
        words = ["-m", "reconciler.cli.main", "hook", "run", name, "--settings", str(self.settings)]
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *words],
            input=self.given,
            env={**os.environ, "GIT_DIR": str(self.bare)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return done.stdout, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.fixture
def pushed(tmp_path: Path) -> Pushed:
    """A push that was not accepted yet."""
    return Pushed(tmp_path)


def test_after_a_push_the_daemon_is_told_before_anything_heavy_is_imported(pushed: Pushed) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(pushed.state / hook_settings.SOCKET))
        daemon.settimeout(5)
        said, modules = pushed.run("post-receive", pushed.state)
        assert b'"look"' in daemon.recv(4096)
    assert "the daemon looks at main" in said
    assert "click" in modules
    assert not modules & {"sqlalchemy", "pydantic", "yaml", "asyncio", "git", "jinja2", "httpx", "traceback"}


def test_before_a_push_only_what_judging_it_takes_is_imported(pushed: Pushed) -> None:
    said, modules = pushed.run("pre-receive", None)
    assert "1 to change" in said
    assert {"pydantic", "yaml"} <= modules
    assert not modules & {
        "sqlalchemy",
        "git",
        "asyncio",
        "asyncssh",
        "alembic",
        "fastapi",
        "httpx",
        "structlog",
    }
