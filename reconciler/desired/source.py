"""Reading commits of the fleet repository: straight from git's object database, without a checkout.

The only place that uses GitPython, to find a repository that is not bare; objects are read by one `ls-tree` and one `cat-file --batch`,
which end with the call (a `Repo` that reads objects itself keeps two child processes until it is closed). No text of a
user becomes an option: revisions pass an allow-list and stand after `--end-of-options`, paths after `--`. Hooks, filters,
the pager, fsmonitor and lazy fetches have no part in it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.desired import git_process
from reconciler.desired.git_process import Bounds
from reconciler.desired.problems import Problem, Source
from reconciler.desired.reading import is_manifest_path
from reconciler.desired.snapshot import (
    WORKTREE,
    Snapshot,
    link,
    load_snapshot,
    oversize,
    read_folder,
    refuse_excess,
)
from reconciler.errors import SourceFault

_SECONDS = 120.0

_HEX = re.compile(r"[0-9a-f]{4,64}")
_STEPS = re.compile(r"(?P<name>.+?)(?P<steps>(?:~[0-9]{1,6}|\^)?)", re.DOTALL)
# git-check-ref-format(1), rules 1 to 10, and no leading dash (rule of `git branch`).
_BAD_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(?:^|/)\.|\.lock(?:/|$)|^@$|^-")

# As git itself writes it; whatever is written otherwise is GitPython's to find out.
_BARE = re.compile(r"^\[core\]\n(?:\t[^\n]*\n)*\tbare = true$", re.MULTILINE)

_REGULAR, _LINK, _SUBMODULE = ("100644", "100755", "100664"), "120000", "160000"


@dataclass(frozen=True)
class Incoming:
    """Where a receive hook finds the objects of the push, which no other process sees yet: git's quarantine.

    A hook was started by git in a repository that git trusts, so its owner is not judged again. Empty when the push
    brought no objects.
    """

    objects: str = ""
    alternates: str = ""
    quarantine: str = ""

    @staticmethod
    def of(environ: Mapping[str, str]) -> Incoming:
        """The quarantine that git names in the environment of a hook (git-receive-pack(1))."""
        objects = environ.get("GIT_OBJECT_DIRECTORY", "")
        quarantine = environ.get("GIT_QUARANTINE_PATH", "")
        return Incoming(
            str(Path(objects).absolute()) if objects else "",
            environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", ""),
            str(Path(quarantine).absolute()) if quarantine else "",
        )

    def environment(self) -> dict[str, str]:
        """The same for a git that we start."""
        named = {
            "GIT_OBJECT_DIRECTORY": self.objects,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": self.alternates,
            "GIT_QUARANTINE_PATH": self.quarantine,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class _Repository:
    """A repository that was found: where its data is, and its work tree (None when it is bare)."""

    path: Path
    git_dir: Path
    work_tree: Path | None
    incoming: Incoming | None = None


@dataclass(frozen=True)
class _Blob:
    mode: str
    object_id: str
    size: int
    path: str


def read_commit(
    repo: Path,
    rev: str,
    subpath: str = "",
    *,
    incoming: Incoming | None = None,
    known: Mapping[str, bytes] | None = None,
) -> Snapshot:
    """The manifests of a commit below `subpath` (a folder of the repository; paths in the result are below it).

    `rev` is a commit id of at least four hexadecimal digits, a branch, a tag, or HEAD, each with `~n` or `^` after it.
    Raises SourceFault: no repository, nothing committed, unknown or ambiguous revision, no such folder in the commit,
    a repository of another user, more than the limits of `snapshot`. `incoming` is for a receive hook; `known` are
    contents by object id, which are not read again.
    """
    repository = _open(repo, incoming)
    commit = _resolve(repository, rev)
    folder = _folder(subpath)
    known = known or {}
    wanted, problems = _select(repository, _list(repository, commit, folder), folder)
    missing = list(dict.fromkeys(b.object_id for b in wanted if b.object_id not in known))
    header, *read = _objects(repository, [commit, *missing])
    contents = dict(zip(missing, read, strict=True))
    files = {b.path: contents[b.object_id] if b.object_id in contents else known[b.object_id] for b in wanted}
    name, email, at, message = _commit_facts(header)
    ids = {b.path: b.object_id for b in wanted}
    return Snapshot(commit, name, email, message, at, files, tuple(sorted(problems)), ids)


def head_commit(repo: Path) -> str:
    """The full id of the commit that HEAD is at. Raises SourceFault as `read_commit`."""
    return _resolve(_open(repo), "HEAD")


def resolve(repo: Path, rev: str, *, incoming: Incoming | None = None) -> str:
    """The full id of the commit that a revision names. Raises SourceFault as `read_commit`."""
    return _resolve(_open(repo, incoming), rev)


def ask(
    repo: Path, *arguments: str, given: bytes = b"", incoming: Incoming | None = None
) -> tuple[int, bytes, str]:
    """Runs git in a repository: exit status, output, error text. For `lineage` and `signatures`, which know what they ask.

    Arguments are theirs: checked ids and constants, never a user's text. Raises SourceFault: no repository, git took
    too long or printed too much.
    """
    return _run(_open(repo, incoming), *arguments, given=given)


def objects(repo: Path, ids: list[str], *, incoming: Incoming | None = None) -> list[bytes]:
    """The raw contents of objects, given by their full ids, in that order. Raises SourceFault for one that is missing."""
    return _objects(_open(repo, incoming), ids)


def is_ancestor(repo: Path, ancestor: str, descendant: str, *, incoming: Incoming | None = None) -> bool:
    """Whether one revision is in the history of another (or is that commit). Raises SourceFault as `read_commit`."""
    repository = _open(repo, incoming)
    ids = (_resolve(repository, ancestor), _resolve(repository, descendant))
    status, _, error = _run(repository, "merge-base", "--is-ancestor", "--end-of-options", *ids)
    if status not in (0, 1):
        raise SourceFault(f"{repo}: git could not compare {ids[0][:12]} and {ids[1][:12]}: {error.strip()}")
    return status == 0


def dirty(repo: Path, subpath: str = "") -> bool:
    """Whether the work tree (below `subpath`) differs from HEAD, untracked files included; False for a bare one."""
    repository = _open(repo)
    if repository.work_tree is None:
        return False
    folder = _folder(subpath)
    status, output, error = _run(
        repository, "status", "--porcelain=v1", "-z", "--untracked-files=normal", "--", folder or "."
    )
    if status != 0:
        raise SourceFault(f"{repo}: git could not compare the files with HEAD: {error.strip()}")
    return bool(output)


def locate(folder: Path) -> tuple[Path, str]:
    """The repository that a folder is in, and the folder's path within it ("" for its top): for `read_commit`.

    Raises SourceFault when the folder is in no repository.
    """
    repository = _open(folder)
    if repository.work_tree is None:
        return repository.git_dir, ""
    inside = os.path.relpath(folder.resolve(), repository.work_tree.resolve())
    return repository.work_tree, "" if inside == "." else inside


def check_revision(rev: str) -> None:
    """Raises SourceFault for a text that is no revision in an accepted form; nothing is looked up."""
    match = _STEPS.fullmatch(rev)
    name = match["name"] if match else ""
    if not match or len(rev) > 250 or not (_HEX.fullmatch(name) or not _BAD_NAME.search(name)):
        hint = "write a commit id, a branch, a tag, or HEAD; ~n after it goes n commits back"
        raise SourceFault(f"{rev[:60]!r} is no revision", hint=hint)


def _gitpython() -> Any:
    """The module, imported at first use: it costs a tenth of a second, and looks for the program while it is imported."""
    try:
        import git  # noqa: PLC0415
    except ImportError as fault:
        raise SourceFault("git was not found", hint="install git 2.30 or newer") from fault
    return git


def _open(path: Path, incoming: Incoming | None = None) -> _Repository:
    found = _bare(path) or _search(path)
    if incoming is not None:
        return replace(found, incoming=incoming)
    _refuse_stranger(found)
    return found


def _bare(path: Path) -> _Repository | None:
    """The bare repository in a folder, as a mirror or a hook's is; None when the folder is something else."""
    try:
        bare = (path / "HEAD").is_file() and all((path / part).is_dir() for part in ("objects", "refs"))
        if bare and _BARE.search((path / "config").read_text(encoding="utf-8", errors="replace")):
            return _Repository(path, path.resolve(), None)
    except OSError:
        pass
    return None


def _search(path: Path) -> _Repository:
    git = _gitpython()
    try:
        # Expanding variables in paths is a habit of GitPython that a path from the command line must not meet.
        with git.Repo(path, search_parent_directories=True, expand_vars=False) as repo:
            work_tree = None if repo.bare or not repo.working_tree_dir else Path(repo.working_tree_dir)
            return _Repository(path, Path(repo.git_dir).resolve(), work_tree)
    except git.NoSuchPathError:
        raise SourceFault(f"{path}: there is no such folder") from None
    except (git.InvalidGitRepositoryError, OSError):
        hint = "run `git init` and commit the manifests, or give the folder of the fleet repository"
        raise SourceFault(f"{path}: not in a git repository", hint=hint) from None


def _refuse_stranger(repository: _Repository) -> None:
    """git's own rule (safe.directory): the configuration of a repository of somebody else may run programs as us."""
    trusted = {os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        trusted.add(int(os.environ["SUDO_UID"]))
    for place in filter(None, (repository.git_dir, repository.work_tree)):
        owner = place.stat().st_uid
        if owner not in trusted:
            hint = f"run as the user with id {owner}, or give the folder to user {os.geteuid()} with chown"
            raise SourceFault(
                f"{place}: dubious ownership, the repository belongs to another user", hint=hint
            )


def _run(repository: _Repository, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
    """Runs git and waits: exit status, output, error text. `given` is its standard input."""
    environment = git_process.environment(
        {
            "GIT_DIR": str(repository.git_dir),
            "GIT_WORK_TREE": str(repository.work_tree or repository.git_dir),
            "GIT_INDEX_FILE": str(repository.git_dir / "index"),
            **(repository.incoming.environment() if repository.incoming else {}),
        }
    )
    ended = git_process.run(
        git_process.git(*arguments), environment, given=given, bounds=Bounds(seconds=_SECONDS)
    )
    if ended.stopped:
        why = (
            f"did not end within {_SECONDS:.0f} seconds"
            if ended.stopped == "deadline"
            else "printed too much"
        )
        raise SourceFault(f"{repository.path}: git {arguments[0]} {why}", hint="run `git fsck` in it")
    return ended.status, ended.output, ended.error


def _resolve(repository: _Repository, rev: str) -> str:
    check_revision(rev)
    status, output, error = _run(repository, "rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}")
    if status == 0:
        return output.decode("ascii").strip()
    if "ambiguous" in error:
        raise SourceFault(f"{repository.path}: {rev} fits several objects", hint="give more digits")
    _, anything, _ = _run(repository, "rev-list", "--all", "--max-count=1")
    if not anything:
        raise SourceFault(
            f"{repository.path}: nothing has been committed yet", hint="commit the manifests first"
        )
    hint = "fetch it first, or check the spelling; a shallow clone lacks old commits"
    raise SourceFault(f"{repository.path}: there is no revision {rev}", hint=hint)


def _folder(subpath: str) -> str:
    """A path within the repository in git's form, "" for the top. Raises SourceFault for one that leaves it."""
    folder = posixpath.normpath(subpath) if subpath else "."
    if folder.startswith(("/", "../")) or folder == ".." or "\0" in folder:
        raise SourceFault(f"{subpath!r} is no folder within the repository", hint="give a path below its top")
    return "" if folder == "." else folder


def _list(repository: _Repository, commit: str, folder: str) -> Iterator[_Blob]:
    """Everything in a commit below a folder, with paths below that folder."""
    below = ("--", f"{folder}/") if folder else ()
    status, output, error = _run(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, *below)
    if status != 0:
        raise SourceFault(f"{repository.path}: commit {commit[:12]} cannot be read: {error.strip()}")
    if folder and not output:
        hint = "check the folder's name, or choose another revision"
        raise SourceFault(f"{repository.path}: commit {commit[:12]} has no folder {folder}", hint=hint)
    for line in output.split(b"\0")[:-1]:
        facts, _, raw = line.partition(b"\t")
        mode, _, object_id, size = facts.decode("ascii").split()
        path = raw.decode("utf-8", "surrogateescape")
        yield _Blob(
            mode, object_id, int(size) if size.isdigit() else 0, path[len(folder) + 1 if folder else 0 :]
        )


def _select(
    repository: _Repository, blobs: Iterable[_Blob], folder: str
) -> tuple[list[_Blob], list[Problem]]:
    """The manifests among the blobs, and the problems of what cannot be one and may hide some."""
    wanted: list[_Blob] = []
    links: list[_Blob] = []
    problems: list[Problem] = []
    regular = set()
    for blob in blobs:
        if blob.path.startswith(".") or "/." in blob.path:
            continue
        if blob.mode == _LINK:
            links.append(blob)
        elif blob.mode not in _REGULAR:
            message = (
                "submodules are not read" if blob.mode == _SUBMODULE else f"mode {blob.mode} is not read"
            )
            problems.append(
                Problem(Source(_text(blob.path)), "submodule", message, "commit the files themselves")
            )
        elif not is_manifest_path(blob.path):
            regular.add(blob.path)
        elif _text(blob.path) != blob.path:
            message = "the name of the file is not UTF-8 text"
            problems.append(Problem(Source(_text(blob.path)), "path-not-text", message, "rename it"))
        elif (problem := oversize(blob.path, blob.size)) is not None:
            problems.append(problem)
        else:
            wanted.append(blob)
    refuse_excess(str(repository.path), len(wanted), sum(blob.size for blob in wanted))
    for blob, target in zip(links, _objects(repository, [b.object_id for b in links]), strict=True):
        # A link to something that is no manifest, such as a README, hides nothing.
        to = posixpath.join(posixpath.dirname(blob.path), target[:4096].decode("utf-8", "surrogateescape"))
        if is_manifest_path(blob.path) or posixpath.normpath(to) not in regular:
            problems.append(link(_text(blob.path)))
    return wanted, problems


def _text(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _objects(repository: _Repository, ids: list[str]) -> list[bytes]:
    """The contents of objects, in the order of `ids`."""
    if not ids:
        return []
    status, output, error = _run(
        repository, "cat-file", "--batch", "--buffer", given="".join(f"{i}\n" for i in ids).encode("ascii")
    )
    contents: list[bytes] = []
    at = 0
    for object_id in ids:
        end = output.find(b"\n", at)
        words = output[at:end].split()
        if status != 0 or end < 0 or len(words) != 3:
            hint = "run `git fsck` in it; a partial clone must be completed first"
            raise SourceFault(
                f"{repository.path}: object {object_id[:12]} cannot be read {error.strip()}".strip(),
                hint=hint,
            )
        size = int(words[2])
        contents.append(output[end + 1 : end + 1 + size])
        at = end + 1 + size + 1
    return contents


def _commit_facts(raw: bytes) -> tuple[str, str, datetime, str]:
    """Author's name and address, time of the commit in UTC, and message of a commit object."""
    head, _, body = raw.partition(b"\n\n")
    fields: Mapping[bytes, bytes] = dict(
        line.split(b" ", 1)
        for line in reversed(head.split(b"\n"))
        if b" " in line and not line.startswith(b" ")
    )
    encoding = fields.get(b"encoding", b"utf-8").decode("ascii", "replace")
    person = re.fullmatch(rb"(.*?) ?<([^>]*)>.*", fields.get(b"author", b""), re.DOTALL)
    when = re.search(rb"> (-?[0-9]{1,11}) ", fields.get(b"committer", b"") + b" ")
    name, email = (person[1], person[2]) if person else (b"", b"")
    try:
        at = datetime.fromtimestamp(int(when[1]) if when else 0, UTC)
    except (ValueError, OverflowError, OSError):
        at = datetime.fromtimestamp(0, UTC)
    return _decode(name, encoding), _decode(email, encoding), at, _decode(body, encoding).strip()


def _decode(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding, "replace")
    except LookupError:
        return raw.decode("utf-8", "replace")


__all__ = [
    "WORKTREE",
    "Incoming",
    "Snapshot",
    "ask",
    "check_revision",
    "dirty",
    "head_commit",
    "is_ancestor",
    "load_snapshot",
    "locate",
    "objects",
    "read_commit",
    "read_folder",
    "resolve",
]
