"""A bare mirror of a fleet repository's branch: where it stands at its remotes, and its commits brought here.

Only objects and refs are kept: no checkout, no hooks, no submodules, no tags. `peek` costs one `ls-remote`; `fetch`
transfers only when the branch has moved. A remote that hangs, trickles, floods or answers nonsense costs a deadline and
nothing else. The mirror can be deleted at any time: it is a cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reconciler.desired import git_failures, git_process, mirror_folder
from reconciler.desired.git_failures import Failure
from reconciler.desired.git_process import Bounds, Ended
from reconciler.desired.mirror_folder import Held
from reconciler.desired.remotes import PROTOCOLS, Remote, check_branch, digest, parse, ssh_command
from reconciler.errors import SourceEmpty, SourceFault, SourceUnreachable
from reconciler.kit.text import did_you_mean

T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TAGS = "refs/tags/"
_UNADVERTISED = re.compile(r"unadvertised object|not our ref")
"""How a server says that it gives tips of branches and tags only: gitprotocol-pack(5), uploadpack.allow…SHA1InWant."""
_REFS = 4 * 1024 * 1024
_PACKS = 40
_KEPT = 20
_MEMORY = 3 * 1024**3
_PASSED_ON = (
    *("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"),
)
_SETTINGS = (
    *(
        "transfer.fsckObjects=true",
        "fetch.unpackLimit=1",
        "fetch.writeCommitGraph=false",
        "protocol.version=2",
    ),
    *(
        "http.followRedirects=false",
        "transfer.bundleURI=false",
        "ssh.variant=ssh",
        "core.fsync=committed,reference",
    ),
    # What arrives is unpacked in little memory, however large it says it is.
    *(
        "core.bigFileThreshold=4m",
        "pack.threads=1",
        "core.packedGitWindowSize=16m",
        "core.packedGitLimit=256m",
    ),
)


@dataclass(frozen=True)
class Tip:
    """Where a branch stands. `remote` is the address that answered, without credentials.

    `passed` says of each remote before it why it did not serve.
    """

    commit: str
    remote: str
    passed: tuple[str, ...] = ()

    @property
    def object_format(self) -> str:
        """The kind of ids that the repository has."""
        return "sha256" if len(self.commit) == 64 else "sha1"


@dataclass(frozen=True)
class Fetched:
    """A commit that is in the mirror now. `changed`: it had to be brought; `rebuilt`: the mirror was damaged and made anew."""

    commit: str
    remote: str
    passed: tuple[str, ...] = ()
    changed: bool = False
    rebuilt: bool = False


class _Passed(Exception):
    """A remote did not serve; the next one is asked."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Mirror:
    """The mirror in `folder`, a bare repository for `source.read_commit` and `lineage` once something was fetched.

    `remotes` are asked in their order, the first that serves counts; `allow` are the protocols that may be used.
    `ssh_key` is a private key's file, `known_hosts` the pinned host keys: without it no ssh server is trusted.
    `seconds` bounds each call of git, `limit` the bytes of the mirror; `what` is the repository in messages. Where a
    branch is asked for, `refs/tags/NAME` is a tag and a whole id a commit. SourceFault for an address that is not accepted.
    """

    def __init__(  # noqa: PLR0913 - where from, how, and how far
        self,
        folder: Path,
        remotes: Sequence[str],
        allow: Collection[str] = frozenset(PROTOCOLS),
        *,
        ssh_key: Path | None = None,
        known_hosts: Path | None = None,
        seconds: float = 120.0,
        limit: int = 2 * 1024**3,
        what: str = "the fleet repository",
    ) -> None:
        self.folder = folder.absolute()
        self.remotes = _parsed(remotes, allow)
        self._allow = ":".join(sorted({remote.protocol for remote in self.remotes}))
        self._ssh = ssh_command(ssh_key, known_hosts, min(15.0, seconds))
        self._seconds = seconds
        self._limit = limit
        self._what = what
        # One thread: calls on one mirror follow each other, and hanging remotes of several mirrors do not queue up.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mirror-{folder.name}")

    async def peek(self, branch: str) -> Tip:
        """Where the branch stands at the first remote that serves. Nothing is transferred or changed.

        SourceFault: that remote is empty or has no such branch, or no remote serves and waiting will not help;
        SourceUnreachable: no remote serves at the moment.
        """
        return await self._hop(lambda stop: self._peek(branch, stop)[0])

    async def fetch(self, branch: str) -> Fetched:
        """Brings the branch of the first remote that serves. Errors as `peek`; SourceFault also for what is too large or damaged."""
        return await self._hop(lambda stop: self._fetch(branch, stop))

    async def mend(self, branch: str) -> bool:
        """Fetches the branch anew into an empty mirror when something of the mirror is missing or damaged; whether it was.

        Nothing is thrown away before a remote answers. Errors as `fetch`.
        """
        return await self._hop(lambda stop: self._mend(branch, stop))

    async def keep(self, commits: Collection[str]) -> None:
        """Keeps exactly these commits (those that the mirror holds) from being cleared away after a branch was rewritten."""
        wanted = frozenset(commits)
        await self._hop(lambda stop: self._keep(wanted, stop))

    async def tidy(self) -> None:
        """Packs the mirror's packs together and forgets what nothing has named for two weeks."""
        await self._hop(self._tidy)

    def close(self) -> None:
        """Lets the mirror's thread end; what runs is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _hop(self, work: Callable[[threading.Event], T]) -> T:
        """Runs `work` on the mirror's thread. A cancelled call ends its git first, so nothing goes on unseen."""
        stop = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(self._thread, work, stop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # marks it as seen
            raise

    # -- on the mirror's thread

    def _peek(self, branch: str, stop: threading.Event) -> tuple[Tip, Remote]:
        check_branch(branch)
        return self._first(lambda remote, passed: (self._tip(remote, branch, stop, passed), remote))

    def _fetch(self, branch: str, stop: threading.Event) -> Fetched:
        check_branch(branch)
        with mirror_folder.held(self.folder, self._seconds, stop) as lock:
            return self._first(lambda remote, passed: self._bring(remote, branch, stop, lock, passed))

    def _mend(self, branch: str, stop: threading.Event) -> bool:
        check_branch(branch)
        with mirror_folder.held(self.folder, self._seconds, stop) as lock:
            bounds = Bounds(self._seconds, _REFS, stop=stop, inherit=(lock.descriptor,), started=lock.note)
            if self.folder.exists() and not self._damaged(bounds):
                return False

            def anew(remote: Remote, passed: tuple[str, ...]) -> Fetched:
                self._tip(remote, branch, stop, passed)
                mirror_folder.discard(self.folder)
                return self._bring(remote, branch, stop, lock, passed)

            self._first(anew)
            return True

    def _first(self, attempt: Callable[[Remote, tuple[str, ...]], T]) -> T:
        failures: list[tuple[Remote, Failure]] = []
        for remote in self.remotes:
            try:
                return attempt(remote, tuple(f"{r.name}: {f.reason}" for r, f in failures))
            except _Passed as passed:
                failures.append((remote, passed.failure))
        message = "; ".join(f"{remote.name}: {failure.reason}" for remote, failure in failures)
        hint = next((failure.hint for _, failure in failures if failure.hint), "")
        if any(failure.retry for _, failure in failures):
            raise SourceUnreachable(f"no remote of {self._what} answers: {message}", hint=hint)
        raise SourceFault(f"{self._what} cannot be read: {message}", hint=hint)

    def _tip(self, remote: Remote, branch: str, stop: threading.Event, passed: tuple[str, ...]) -> Tip:
        if _ID.fullmatch(branch):
            return Tip(branch, remote.name, passed)
        commit = self._advertised(remote, (_full(branch),), stop).get(_full(branch), "")
        if not commit:
            raise self._no_branch(remote, branch, stop)
        return Tip(commit, remote.name, passed)

    def _advertised(self, remote: Remote, patterns: Sequence[str], stop: threading.Event) -> dict[str, str]:
        """The refs of a remote that fit the patterns, and their ids."""
        ended = self._call(
            remote, ("ls-remote", "--refs", "--quiet"), patterns, Bounds(self._seconds, _REFS, stop=stop)
        )
        found: dict[str, str] = {}
        for line in ended.output.decode("utf-8", "replace").split("\n"):
            object_id, _, name = line.partition("\t")
            if _ID.fullmatch(object_id):
                found[name] = object_id
        return found

    def _no_branch(self, remote: Remote, branch: str, stop: threading.Event) -> SourceFault:
        """Why a remote that answers has no such branch. Never an empty fleet: nothing may be deleted because of it."""
        heads = self._advertised(remote, ("refs/heads/*",), stop)
        names = [name.removeprefix("refs/heads/") for name in heads]
        if not names:
            hint = f"push to its branch {branch}; until then everything stays as it is"
            return SourceEmpty(f"{remote.name}: the repository is empty", hint=hint)
        close = did_you_mean(branch, names)
        hint = f"{close} " if close else ""
        hint += "check the settings' branch, or push the branch again; until then everything stays as it is"
        ref = f"tag {branch[10:]}" if branch.startswith(_TAGS) else f"branch {branch}"
        return SourceEmpty(f"{remote.name}: there is no {ref}", hint=hint)

    def _bring(
        self, remote: Remote, branch: str, stop: threading.Event, lock: Held, passed: tuple[str, ...]
    ) -> Fetched:
        tip = self._tip(remote, branch, stop, passed)
        ref = f"refs/remotes/{remote.digest}/{digest(branch)}"
        short = Bounds(self._seconds, _REFS, stop=stop, inherit=(lock.descriptor,), started=lock.note)
        before = self._at(ref, short)
        if before == tip.commit:
            return Fetched(tip.commit, remote.name, passed)
        usable = len(before) == len(tip.commit)  # it has just told a commit, in this repository's kind of ids
        made = not usable and mirror_folder.ensure(self.folder, tip.object_format, short)
        mirror_folder.clear(self.folder)
        rebuilt = False
        try:
            self._transfer(remote, branch, ref, short)
        except _Passed:
            if made or stop.is_set() or not self._damaged(short):
                raise
            # Whatever a crash did to the mirror: it is fetched again from nothing, once.
            rebuilt, before = True, ""
            mirror_folder.discard(self.folder)
            mirror_folder.ensure(self.folder, tip.object_format, short)
            self._transfer(remote, branch, ref, short)
        commit = self._at(ref, short)
        if not commit:
            raise _Passed(Failure(f"branch {branch} went while it was fetched", retry=True))
        if before and not made:
            self._remember(before, commit, short)
        if mirror_folder.packs(self.folder) > _PACKS:
            self._pack(short)
        return Fetched(commit, remote.name, passed, changed=True, rebuilt=rebuilt)

    def _transfer(self, remote: Remote, branch: str, ref: str, short: Bounds) -> None:
        try:
            self._receive(remote, (f"+{_full(branch)}:{ref}",), short)
        except _Passed as passed:
            if not _ID.fullmatch(branch) or not _UNADVERTISED.search(passed.failure.reason):
                raise
            self._search(remote, branch, ref, short)

    def _search(self, remote: Remote, commit: str, ref: str, short: Bounds) -> None:
        """Brings every branch and tag, for a commit that the server does not give by its id alone."""
        own = f"refs/everything/{remote.digest}"
        every = (f"+refs/heads/*:{own}/heads/*", f"+refs/tags/*:{own}/tags/*")
        self._receive(remote, every, short)
        if self._at(commit, short) != commit:
            hint = "check that it was pushed, and that it is a commit's whole id"
            reason = f"there is no commit {commit} in its branches and tags"
            raise _Passed(Failure(reason, retry=False, hint=hint))
        self._update([f"update {ref} {commit}"], short)

    def _receive(self, remote: Remote, refs: Sequence[str], short: Bounds) -> None:
        room = self._limit
        bounds = Bounds(
            self._seconds,
            _REFS,
            watch=lambda: mirror_folder.size(self.folder) > room,
            stop=short.stop,
            inherit=short.inherit,
            started=short.started,
        )
        words = (
            *(
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--no-auto-gc",
            ),
            *("--no-show-forced-updates", "--force", "--refmap="),
        )
        try:
            self._call(remote, words, refs, bounds)
        finally:
            if bounds.watch is not None and bounds.watch():
                mirror_folder.clear(self.folder)

    def _call(self, remote: Remote, words: Sequence[str], refs: Sequence[str], bounds: Bounds) -> Ended:
        """Runs one command of git against a remote. _Passed when it fails; SourceFault when it is too large."""
        environment = mirror_folder.environment(self.folder, self._environment(remote))
        if words[0] != "fetch":  # asked outside of any repository: there may be no mirror yet
            del environment["GIT_DIR"]
        command = git_process.git(*words, "--", remote.address, *refs, settings=_SETTINGS)
        ended = git_process.run(self._limited(command), environment, bounds=bounds)
        match ended.stopped:
            case "deadline":
                raise _Passed(Failure(f"no answer within {self._seconds:.0f} seconds", retry=True))
            case "cancelled":
                raise SourceUnreachable("the look at the fleet repository was cancelled")
            case "output":
                raise _Passed(
                    Failure("it names too many refs", retry=False, hint="is this the right repository?")
                )
            case "excess":
                raise self._too_large(remote)
        if ended.status == 0:
            return ended
        if re.search(r"File too large|file size limit|signal 25", ended.error, re.IGNORECASE):
            raise self._too_large(remote)
        raise _Passed(git_failures.classify(ended.error))

    def _too_large(self, remote: Remote) -> SourceFault:
        size = f"{self._limit / 1024**2:.0f} MiB"
        hint = "is this the right repository? It holds more than the program needs of it"
        return SourceFault(
            f"{remote.name}: the repository is larger than {size}, the limit of a mirror", hint=hint
        )

    def _limited(self, command: Sequence[str]) -> list[str]:
        """The command under the kernel's limits, and under a deadline that holds even when we are killed."""
        script = 'ulimit -f "$1" 2>/dev/null; ulimit -v "$2" 2>/dev/null; shift 2; exec "$@"'
        blocks, kibibytes = self._limit // 512 + 1, _MEMORY // 1024
        guard = ("timeout", "-k", "5", f"{self._seconds + 10:.0f}")
        return ["sh", "-c", script, "sh", str(blocks), str(kibibytes), *guard, *command]

    def _environment(self, remote: Remote) -> dict[str, str]:
        more = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        more |= {"GIT_ALLOW_PROTOCOL": self._allow, "GIT_SSH_COMMAND": self._ssh}
        if remote.protocol == "file":
            more["GIT_CONFIG_GLOBAL"] = str(mirror_folder.trusting(self.folder, remote.address))
        config: list[tuple[str, str]] = []
        if remote.header is not None:  # not on the command line, where everybody could read it
            config.append((f"http.{remote.address}.extraHeader", remote.header.reveal()))
        more["GIT_CONFIG_COUNT"] = str(len(config))
        for at, (key, value) in enumerate(config):
            more |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
        return more

    # -- in the mirror

    def _at(self, ref: str, bounds: Bounds) -> str:
        """The commit of a ref or id, "" when it or the commit's tree is not there."""
        given = f"{ref}^{{commit}}\n{ref}^{{tree}}\n".encode("ascii")
        ended = mirror_folder.ask(self.folder, "cat-file", "--batch-check", given=given, bounds=bounds)
        lines = [line.split() for line in ended.output.decode("ascii", "replace").splitlines()]
        there = [line[1:2] for line in lines] == [["commit"], ["tree"]] and ended.status == 0
        return lines[0][0] if there else ""

    def _damaged(self, bounds: Bounds) -> bool:
        words = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress", "--no-reflogs")
        ended = mirror_folder.ask(self.folder, *words, bounds=bounds)
        return ended.status != 0 and not ended.stopped

    def _remember(self, before: str, commit: str, bounds: Bounds) -> None:
        """Keeps the tip of before a rewrite: what was accepted last must stay comparable. The newest of them stay."""
        words = ("merge-base", "--is-ancestor", before, commit)
        if mirror_folder.ask(self.folder, *words, bounds=bounds).status == 1:
            names = mirror_folder.ask(
                self.folder,
                *("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/rewritten/"),
                bounds=bounds,
            )
            old = names.output.decode("ascii").split()[_KEPT - 1 :]
            changes = [f"update refs/rewritten/{before} {before}", *(f"delete {name}" for name in old)]
            self._update(changes, bounds)

    def _keep(self, commits: frozenset[str], stop: threading.Event) -> None:
        if not all(_ID.fullmatch(commit) for commit in commits):
            raise ValueError("a full commit id is needed")
        with mirror_folder.held(self.folder, self._seconds, stop) as lock:
            if not self.folder.exists():
                return
            bounds = Bounds(self._seconds, _REFS, stop=stop, inherit=(lock.descriptor,), started=lock.note)
            mirror_folder.clear(self.folder)
            named = mirror_folder.ask(
                self.folder, "for-each-ref", "--format=%(refname)", "refs/kept/", bounds=bounds
            )
            known = {name.rpartition("/")[2] for name in named.output.decode("ascii").split()}
            there = [c for c in sorted(commits - known) if self._at(c, bounds)]
            changes = [f"update refs/kept/{commit} {commit}" for commit in there]
            changes += [f"delete refs/kept/{commit}" for commit in sorted(known - commits)]
            self._update(changes, bounds)

    def _update(self, changes: Sequence[str], bounds: Bounds) -> None:
        if changes:
            given = "".join(f"{change}\n" for change in changes).encode("ascii")
            mirror_folder.ask(self.folder, "update-ref", "--stdin", given=given, bounds=bounds)

    def _tidy(self, stop: threading.Event) -> None:
        with mirror_folder.held(self.folder, self._seconds, stop) as lock:
            if self.folder.exists():
                mirror_folder.clear(self.folder)
                self._pack(Bounds(self._seconds, stop=stop, inherit=(lock.descriptor,), started=lock.note))

    def _pack(self, bounds: Bounds) -> None:
        """One pack instead of many. Not done in time is no fault: the next time tries again."""
        mirror_folder.ask(
            self.folder, "-c", "pack.threads=1", "gc", "--quiet", "--prune=2.weeks.ago", bounds=bounds
        )
        mirror_folder.clear(self.folder)


def _full(branch: str) -> str:
    """A ref's whole name; an id stands for itself."""
    return branch if branch.startswith(_TAGS) or _ID.fullmatch(branch) else f"refs/heads/{branch}"


def watch_paths(remote: str) -> tuple[Path, ...]:
    """What changes in a local repository when it is pushed to: its folder of refs, packed-refs, HEAD. () for others.

    Only what exists is named. An atomic rename can hide from a watcher of single files: poll as well.
    """
    try:
        parsed = parse(remote)
    except SourceFault:
        return ()
    if parsed.protocol != "file":
        return ()
    top = Path(parsed.address)
    for folder in (top, top / ".git"):
        if (folder / "refs").is_dir() and (folder / "objects").is_dir():
            names = ("refs", "reftable", "packed-refs", "HEAD")
            return tuple(folder / name for name in names if (folder / name).exists())
    return ()


def _parsed(addresses: Sequence[str], allow: Collection[str]) -> tuple[Remote, ...]:
    if not addresses:
        raise SourceFault("the fleet has no remote", hint="name at least one under `remotes`")
    return tuple(parse(address, allow) for address in addresses)
