"""Applications in git repositories that a real sshd serves on the loopback interface to whoever has the deploy key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nodes import loopback

from .harness import AUTHOR, Stage

INDEX = "<?php echo trim(file_get_contents(__DIR__ . '/version'));"


@dataclass
class Hosting:
    """Where the repositories of applications are: bare ones in a folder, behind an sshd that knows one deploy key."""

    folder: Path
    server: loopback.Loopback

    def address(self, name: str) -> str:
        return f"ssh://root@127.0.0.1:{self.server.port}{self.folder}/{name}.git"

    def let_in(self, stage: Stage) -> None:
        """The pair that the daemon generated for SSHKey/deploy may read the repositories from now on."""
        row = stage.row("ssh_keys", name="deploy")
        assert row is not None
        authorized = self.folder / "sshd" / "authorized_keys"
        authorized.write_text(authorized.read_text() + row["public_key"] + "\n")


@contextmanager
def hosted(folder: Path) -> Iterator[Hosting]:
    """A server, which ends with the block; `known_hosts` in its folder has its host key."""
    (folder / "sshd").mkdir()
    server = loopback.start(folder / "sshd")
    try:
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host.public}\n")
        yield Hosting(folder, server)
    finally:
        server.stop()


class Application:
    """A repository with a working copy."""

    def __init__(self, hosting: Hosting, name: str) -> None:
        self.address = hosting.address(name)
        self.copy = hosting.folder / name
        self.copy.mkdir()
        self.git("init", "-q", "-b", "main")
        subprocess.run(
            ["git", "init", "-q", "--bare", "-b", "main", f"{self.copy}.git"], check=True, timeout=30
        )

    def git(self, *words: str) -> str:
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": AUTHOR[0], f"GIT_{role}_EMAIL": AUTHOR[1]}
        done = subprocess.run(
            ["git", *words], cwd=self.copy, env=env, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def push(self, **files: str | None) -> str:
        """Commit these files (`__` is a slash, None takes one away) and push: the commit."""
        for name, text in files.items():
            path = self.copy / name.replace("__", "/").replace("index_php", "index.php").replace(
                "index_html", "index.html"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "Change")
        self.git("push", "-q", "--force", f"{self.copy}.git", "main")
        return self.git("rev-parse", "HEAD")


def source(app: Application, **more: Any) -> dict[str, Any]:
    return {"repository": app.address, "key": "deploy", **more}
