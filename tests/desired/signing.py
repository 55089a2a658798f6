"""Keys that sign commits in tests: SSH keys in files, PGP keys in a home of their own whose agent is ended."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from reconciler.desired.kinds import User
from tests.desired.repositories import Repository


class SshKey:
    """An SSH key pair."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519") -> None:
        self.path = folder / name
        words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(self.path)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)

    @property
    def public(self) -> str:
        return " ".join(self.path.with_suffix(".pub").read_text().split()[:2])

    def sign(self, repo: Repository, message: str = "Signed", *options: str) -> str:
        """Commits everything, signed."""
        words = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.path}")
        repo.git("add", "-A")
        repo.git(*words, "commit", "-q", "--allow-empty", "-S", "-m", message, *options)
        return repo.head

    def merge(self, repo: Repository, branch: str) -> str:
        words = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.path}")
        repo.git(*words, "merge", "-q", "--no-ff", "-S", "-m", f"Merge {branch}", branch)
        return repo.head


class PgpHome:
    """A GNUPGHOME for making keys and signatures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)

    def gpg(self, *words: str, given: str = "") -> str:
        done = subprocess.run(
            ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *words],
            env={**os.environ, "GNUPGHOME": str(self.folder)},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def generate(self, person: str, expires: str = "never", at: str = "") -> str:
        """Makes a key and returns its fingerprint. `at`: when, as YYYYMMDDTHHMMSS."""
        clock = ("--faked-system-time", f"{at}!") if at else ()
        self.gpg(*clock, "--quick-gen-key", person, "ed25519", "sign", expires)
        lines = self.gpg("--list-keys", "--with-colons", person).splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def export(self, fingerprint: str) -> str:
        return self.gpg("--armor", "--export", fingerprint)

    def revoke(self, fingerprint: str) -> None:
        text = (self.folder / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.gpg("--import", given=text.replace(":-----BEGIN", "-----BEGIN"))

    def sign(self, repo: Repository, fingerprint: str, message: str = "Signed", at: str = "") -> str:
        """Commits everything, signed."""
        program = repo.folder.parent / "gpg-at"
        clock = f"--faked-system-time {at}!" if at else ""
        program.write_text(f'#!/bin/sh\nexec gpg {clock} "$@"\n')
        program.chmod(0o755)
        repo.git("add", "-A")
        repo.git(
            *("-c", f"gpg.program={program}", "-c", f"user.signingkey={fingerprint}"),
            *("commit", "-q", "--allow-empty", "-S", "-m", message),
            GNUPGHOME=str(self.folder),
        )
        return repo.head

    def close(self) -> None:
        subprocess.run(
            ["gpgconf", "--homedir", str(self.folder), "--kill", "all"], check=True, stdin=subprocess.DEVNULL
        )


def user(name: str, *keys: str) -> User:
    """A User with signing keys, whose address is name@example.test."""
    return User.model_validate(
        {
            "apiVersion": "reconciler/v1",
            "kind": "User",
            "metadata": {"name": name},
            "spec": {"email": f"{name}@example.test", "signingKeys": keys},
        }
    )
