"""`reconciler hook`: check pushes to a bare repository on the server, and show what comes of them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.hook_settings import HookSettings, Push, Watch
    from reconciler.app.hooks import Review

_PLAN_LINES = 200


@click.group(name="hook")
def command() -> None:
    """Check pushes to a bare repository on the server, and show what comes of them."""


@command.command(name="install")
@click.argument("repo", type=click.Path(path_type=Path, file_okay=False))
@options.state
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="The daemon's settings file.")
@click.option("--fleet", "name", help="Fleet of the settings that this repository belongs to.")
@click.option("--branch", help="Branch to check (default: the settings', else main).")
@click.option(
    "--path", "subpath", metavar="SUBDIR", help="Folder of the repository that holds the manifests."
)
@click.option(
    "--follow",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a push shows what the daemon does with it; 0: not at all.",
)
def install(
    repo: Path,
    state: Path,
    config: Path | None,
    name: str | None,
    branch: str | None,
    subpath: str | None,
    follow: float,
) -> None:
    """Put a pre-receive and a post-receive hook into the bare repository REPO.

    Branch, folder and signature policy come from the daemon's settings; run this again when they change. A hook that is
    there already is kept and runs first.
    """
    from reconciler.app import hook_files, hook_setup  # noqa: PLC0415 - help and completion stay fast

    settings = hook_setup.settings_for(
        repo, state.absolute(), config, name=name, branch=branch, path=subpath, follow=follow
    )
    for done in hook_files.install(repo, settings):
        click.echo(f"{done.name}: {done.what}")
    for watch in settings.watches:
        where = f", folder {watch.path}" if watch.path else ""
        click.echo(f"Pushes to {watch.branch}{where} are checked; signature policy: {watch.policy}.")


@command.command(name="uninstall")
@click.argument("repo", type=click.Path(path_type=Path, file_okay=False))
def uninstall(repo: Path) -> None:
    """Take the hooks out of REPO again and put back those of before."""
    from reconciler.app import hook_files  # noqa: PLC0415 - help and completion stay fast

    for done in hook_files.uninstall(repo):
        click.echo(f"{done.name}: {done.what}")


@command.command(name="run", hidden=True)
@click.argument("name", type=click.Choice(["pre-receive", "post-receive"]))
@click.option("--settings", "path", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--follow", type=click.FloatRange(0, 3600), help="Instead of what the settings say.")
def run(name: str, path: Path, follow: float | None) -> int:
    """What the hooks call; git gives the refs of the push on standard input."""
    from reconciler.app import hook_settings  # noqa: PLC0415 - help and completion stay fast

    pushed = hook_settings.pushes(sys.stdin.buffer.read().decode("utf-8", "replace").splitlines())
    settings = hook_settings.read_settings(path)
    watched = [(push, watch) for push in pushed for watch in settings.watches if push.ref == watch.ref]
    out = _Terminal()
    if name == "pre-receive":
        return _receive(settings, watched, out)
    try:
        _follow(settings, watched, out, settings.follow if follow is None else follow)
    except KeyboardInterrupt:
        out.say("the daemon goes on without you watching")
    return 0


class _Terminal:
    """The pusher's terminal, by way of git. When nobody reads any more it falls silent: the answer stays the same."""

    def __init__(self) -> None:
        self._open = True

    def say(self, text: str) -> bool:
        """One line about what happens."""
        return self.line(f"reconciler: {text}")

    def line(self, text: str = "") -> bool:
        """One line; False when nobody reads."""
        from reconciler.desired.problems import printable  # noqa: PLC0415 - help and completion stay fast

        if self._open:
            try:
                sys.stdout.buffer.write(printable(text).encode("utf-8", "backslashreplace") + b"\n")
                sys.stdout.buffer.flush()
            except OSError:
                self._open = False
                # what the interpreter would flush at its end must not fail then
                with contextlib.suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return self._open


def _receive(settings: HookSettings, watched: list[tuple[Push, Watch]], out: _Terminal) -> int:
    from reconciler.app import hooks  # noqa: PLC0415
    from reconciler.desired.source import Incoming  # noqa: PLC0415

    repo = Path(os.environ.get("GIT_DIR", ".")).absolute()
    incoming = Incoming.of(os.environ)
    refused = False
    for push, watch in watched:
        review = hooks.review(repo, push, watch, settings.state, incoming)
        refused = refused or bool(review.refusals)
        _tell(review, out)
    return 1 if refused else 0


def _tell(review: Review, out: _Terminal) -> None:
    from reconciler.kit.text import count, short  # noqa: PLC0415

    watch, push = review.watch, review.push
    for problem in review.problems:
        out.line(str(problem))
    for verdict in review.verdicts:
        if not verdict.ok or verdict.foreign:
            out.line(str(verdict))
    if review.refusals:
        out.line()
        out.say(f"the push to {watch.branch} is refused: {'; '.join(review.refusals)}.")
        for hint in review.hints:
            out.say(f"hint: {hint}.")
        return
    found = f"{count(review.resources, 'resource')}, all valid" if review.resources else "no resource yet"
    out.say(f"{watch.branch} {short(push.old) or 'new'}..{short(push.new)}: {found}.")
    for note in review.notes:
        out.say(f"note: {note}")
    _tell_plan(review, out)


def _tell_plan(review: Review, out: _Terminal) -> None:
    from reconciler.plan.render import as_text, summary  # noqa: PLC0415

    plan = review.plan
    if plan is None:
        return
    out.say(f"compared with {review.against}: {summary(plan)}")
    for finding in plan.findings:
        if finding.blocking:
            word = "will wait for approval" if finding.approvable else "will not be carried out"
            out.say(f"note: this {word} [{finding.code}]: {finding.message}")
    if not plan.effective:
        return
    lines = as_text(plan).splitlines()
    out.line()
    for text in lines[:_PLAN_LINES]:
        out.line(text)
    if len(lines) > _PLAN_LINES:
        out.line(f"… and {len(lines) - _PLAN_LINES} more lines: reconciler plan --from A --to B shows all")


def _follow(
    settings: HookSettings, watched: list[tuple[Push, Watch]], out: _Terminal, seconds: float
) -> None:
    from reconciler.app import hook_settings  # noqa: PLC0415
    from reconciler.kit.text import short  # noqa: PLC0415

    state = settings.state
    for push, watch in watched:
        if state is None or not push.new:
            continue
        match hook_settings.poke(state, push.ref, push.new):
            case "absent":
                out.say("the daemon is not running; it takes this up when it starts")
                continue
            case "denied":
                out.say("the daemon cannot be reached by this user; it looks here by itself")
            case "told":
                out.say(f"the daemon looks at {watch.branch} {short(push.new)}")
        if seconds:
            _show_progress(state, watch, push.new, out, seconds)


def _show_progress(state: Path, watch: Watch, commit: str, out: _Terminal, seconds: float) -> None:
    from reconciler.app import hook_follow  # noqa: PLC0415 - SQLAlchemy is slow to import
    from reconciler.errors import ReconcilerError  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    try:
        with open_state(state) as store:
            hook_follow.Follower(store, watch, commit, out.say).follow(seconds)
    except ReconcilerError as fault:
        out.say(f"progress cannot be shown here: {fault.message}")
