"""Who signed commits, and whether that is enough for the policy.

A key counts as it stands when the commits are judged, not at the time that a commit claims for itself: whoever holds an
expired key could write any date. Who may sign is the caller's to say, from the revision accepted before.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from reconciler.desired import source
from reconciler.desired.judgement import Judgement, State
from reconciler.desired.pgpsig import BEGIN as PGP
from reconciler.desired.pgpsig import PgpJudge
from reconciler.desired.problems import printable
from reconciler.desired.signers import Signers
from reconciler.desired.source import Incoming
from reconciler.desired.sshsig import BEGIN as SSH
from reconciler.desired.sshsig import SshJudge
from reconciler.kit.text import short

Policy = Literal["none", "head", "strict"]

_AT_ONCE = 200
"""Commits read by one call of git."""


@dataclass(frozen=True)
class Verdict:
    """What a commit's signature is worth. `signer` is whose key it is, `author` and `committer` whom the commit names.

    Only the signer is proven: anybody can write any author.
    """

    commit: str
    state: State
    signer: str = ""
    key: str = ""
    author: str = ""
    committer: str = ""
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether somebody who may sign did."""
        return self.state == "good"

    @property
    def foreign(self) -> bool:
        """Whether the signer is another person than the author that the commit names."""
        signer, author = self.signer.lower(), self.author.lower()
        return bool(signer and author) and signer != author and not signer.endswith(f"<{author}>")

    @property
    def message(self) -> str:
        """The verdict as a sentence for people."""
        return str(self)

    def __str__(self) -> str:
        told = {
            "good": f"signed by {self.signer or self.key}",
            "unsigned": "not signed",
            "unknown": f"signed with an unknown key ({self.key})",
            "expired": f"signed with an expired key ({self.signer or self.key})",
            "revoked": f"signed with a revoked key ({self.signer or self.key})",
            "altered": "altered after it was signed",
            "malformed": "its signature cannot be judged",
        }[self.state]
        extra = f"; it names {self.author} as its author" if self.foreign else ""
        detail = f": {self.detail}" if self.detail and self.state not in ("good", "unsigned") else ""
        return printable(f"commit {short(self.commit)}: {told}{detail}{extra}")


def verify(
    repo: Path,
    commits: Sequence[str],
    policy: Policy,
    signers: Signers,
    *,
    at: datetime | None = None,
    incoming: Incoming | None = None,
) -> tuple[Verdict, ...]:
    """The verdicts on the commits that a policy asks for: none, the last one (`head`), or every one (`strict`).

    `commits` are full ids, ancestors first, as `lineage.between` gives them; of a branch's first revision the tip alone.
    `at` is the moment that counts, None is now. SourceFault: a commit is missing, ssh-keygen or gpg is, or hangs.
    """
    match policy:
        case "none":
            chosen: Sequence[str] = ()
        case "head":
            chosen = commits[-1:]
        case "strict":
            chosen = commits
    with contextlib.ExitStack() as stack:
        judges = _Judges(stack, signers, at)
        return tuple(_verdict(commit, raw, judges) for commit, raw in _read(repo, chosen, incoming))


def refused(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Those that stand in the way of accepting the commits."""
    return tuple(verdict for verdict in verdicts if not verdict.ok)


class _Judges:
    """The judges, each made when the first signature of its sort is met."""

    def __init__(self, stack: contextlib.ExitStack, signers: Signers, at: datetime | None) -> None:
        self._stack = stack
        self._signers = signers
        self._at = at
        self._ssh: SshJudge | None = None
        self._pgp: PgpJudge | None = None

    def judge(self, payload: bytes, armored: str, people: Sequence[str]) -> Judgement:
        begin = armored.lstrip().split("\n", 1)[0].strip()
        if begin == SSH:
            self._ssh = self._ssh or SshJudge(self._folder(), self._signers, self._at)
            return self._ssh.judge(payload, armored, people)
        if begin == PGP:
            if self._pgp is None:
                self._pgp = PgpJudge(self._folder(), self._signers.pgp, self._at)
                self._stack.callback(self._pgp.close)
            return self._pgp.judge(payload, armored)
        return Judgement("malformed", detail="only SSH and PGP signatures are read")

    def _folder(self) -> Path:
        # The name is short: gpg's sockets, should there be any, have a limit of 107 characters.
        scratch = tempfile.TemporaryDirectory(prefix="rs-", ignore_cleanup_errors=True)
        return Path(self._stack.enter_context(scratch))


def _read(repo: Path, commits: Sequence[str], incoming: Incoming | None) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(commits), _AT_ONCE):
        some = list(commits[start : start + _AT_ONCE])
        yield from zip(some, source.objects(repo, some, incoming=incoming), strict=True)


def _verdict(commit: str, raw: bytes, judges: _Judges) -> Verdict:
    author, committer = _email(raw, "author"), _email(raw, "committer")
    payload, signatures = split(raw, len(commit))
    if not signatures:
        judgement = Judgement("unsigned")
    elif len(signatures) > 1:
        judgement = Judgement("malformed", detail="there is more than one signature")
    else:
        armored = signatures[0].decode("utf-8", "replace")
        judgement = judges.judge(payload, armored, tuple(dict.fromkeys((committer, author))))
    return Verdict(
        commit, judgement.state, judgement.signer, judgement.key, author, committer, judgement.detail
    )


def split(raw: bytes, id_length: int = 40) -> tuple[bytes, list[bytes]]:
    """What a commit's signature covers, and its signatures, from the raw commit object (git's commit.c).

    The payload is the object without its signature headers; `gpgsig` counts where ids have 40 digits, `gpgsig-sha256`
    where they have 64.
    """
    head, separator, body = raw.partition(b"\n\n")
    wanted = b"gpgsig" if id_length == 40 else b"gpgsig-sha256"
    kept: list[bytes] = []
    found: list[list[bytes]] = []
    current: list[bytes] | None = None
    for line in head.split(b"\n"):
        if line.startswith(b" ") and current is not None:
            current.append(line[1:])
            continue
        name, _, value = line.partition(b" ")
        current = [value] if name in (b"gpgsig", b"gpgsig-sha256") else None
        if current is None:
            kept.append(line)
        elif name == wanted:
            found.append(current)
    return b"\n".join(kept) + separator + body, [b"\n".join(lines) + b"\n" for lines in found]


def _email(raw: bytes, role: str) -> str:
    """The address of a commit's author or committer."""
    head = raw.partition(b"\n\n")[0]
    match = re.search(rb"^" + role.encode("ascii") + rb" [^\n<]*<([^>\n]*)>", head, re.MULTILINE)
    return match[1].decode("utf-8", "replace").strip() if match else ""


__all__ = ["Policy", "Signers", "State", "Verdict", "refused", "split", "verify"]
