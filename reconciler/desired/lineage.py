"""How two commits stand to each other, the commits between them, and the trees they hold."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Literal

from reconciler.desired import source
from reconciler.desired.source import Incoming
from reconciler.errors import SourceFault
from reconciler.kit.text import short

Advance = Literal["same", "forward", "rewritten", "behind"]

MOST_COMMITS = 10_000
"""Commits that `between` lists; more at once is no ordinary push."""

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def advance(repo: Path, old: str, new: str, *, incoming: Incoming | None = None) -> Advance:
    """How a branch got from commit `old` to commit `new`, both full ids.

    `forward`: `old` is in the history of `new`. `behind`: it is the other way round. `rewritten`: neither, also when the
    repository does not hold `old` any more. SourceFault: no repository, no commit `new`, an id that is none.
    """
    _check(old, new)
    if old == new:
        return "same"
    # the usual way first, by one call of git
    if source.ask(repo, "merge-base", "--is-ancestor", old, new, incoming=incoming)[0] == 0:
        return "forward"
    if not exists(repo, old, incoming=incoming):
        source.resolve(repo, new, incoming=incoming)
        return "rewritten"
    source.resolve(repo, new, incoming=incoming)
    return "behind" if source.is_ancestor(repo, new, old, incoming=incoming) else "rewritten"


def exists(repo: Path, commit: str, *, incoming: Incoming | None = None) -> bool:
    """Whether the repository holds a commit of this full id. SourceFault: no repository, an id that is none."""
    _check(commit)
    status, output, _ = source.ask(repo, "cat-file", "-t", commit, incoming=incoming)
    return status == 0 and output.strip() == b"commit"


def between(repo: Path, old: str, new: str, *, incoming: Incoming | None = None) -> tuple[str, ...]:
    """The commits in the history of `new` that are not in that of `old`, merged ones too, ancestors first.

    SourceFault: as `advance`, a commit that is missing, or more than MOST_COMMITS.
    """
    _check(old, new)
    status, output, error = source.ask(
        repo,
        *("rev-list", "--topo-order", "--reverse", f"--max-count={MOST_COMMITS + 1}", new, f"^{old}", "--"),
        incoming=incoming,
    )
    if status != 0:
        raise SourceFault(
            f"{repo}: the commits from {short(old)} to {short(new)} cannot be listed: {error.strip()}"
        )
    found = tuple(output.decode("ascii").split())
    if len(found) > MOST_COMMITS:
        raise SourceFault(
            f"{repo}: more than {MOST_COMMITS} commits from {short(old)} to {short(new)}",
            hint="push them in parts",
        )
    return found


def tree(repo: Path, commit: str, path: str = "", *, incoming: Incoming | None = None) -> str:
    """The id of the tree that a commit holds in a folder ("" for its top): equal trees hold equal files.

    SourceFault: no such commit, no such folder in it, a path that leaves the repository.
    """
    _check(commit)
    folder = posixpath.normpath(path) if path else "."
    if folder.startswith(("/", "../")) or folder == ".." or "\0" in folder or "\n" in folder:
        raise SourceFault(f"{path!r} is no folder within the repository", hint="give a path below its top")
    name = f"{commit}^{{tree}}" if folder == "." else f"{commit}:{folder}"
    status, output, _ = source.ask(
        repo,
        "cat-file",
        "--batch-check",
        given=name.encode("utf-8", "surrogateescape") + b"\n",
        incoming=incoming,
    )
    words = output.split()
    if status == 0 and len(words) == 3 and words[1] == b"tree":
        return words[0].decode("ascii")
    if not exists(repo, commit, incoming=incoming):
        raise SourceFault(f"{repo}: there is no commit {short(commit)}", hint="fetch it first")
    hint = "check the folder's name, or choose another revision"
    raise SourceFault(f"{repo}: commit {short(commit)} has no folder {folder}", hint=hint)


def holds(repo: Path, commit: str, path: str) -> bool:
    """Whether a commit has a folder ("" is its top). SourceFault: no repository, no such commit."""
    if not exists(repo, commit):
        raise SourceFault(f"{repo}: there is no commit {short(commit)}", hint="fetch it first")
    try:
        tree(repo, commit, path)
    except SourceFault:
        return False
    return True


def _check(*commits: str) -> None:
    for commit in commits:
        if not _ID.fullmatch(commit):
            raise SourceFault(f"{commit[:60]!r} is no full commit id", hint="give all its digits")
