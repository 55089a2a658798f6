"""Putting the receive hooks into a bare repository and taking them out again; hooks of before are kept and run first."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from reconciler.app.hook_settings import HookSettings, written_settings
from reconciler.errors import SettingsFault

NAMES = ("pre-receive", "post-receive")
SETTINGS = "reconciler.json"
BEFORE = ".before-reconciler"
_MARK = "# reconciler: a hook made by `reconciler hook install`"

_SCRIPT = """#!/bin/sh
{mark}; `reconciler hook uninstall` removes it.
here=$(dirname "$0")
before=$here/{name}{before}
input=$(cat; echo x)
input=${{input%x}}
if [ -x "$before" ]; then
    printf '%s' "$input" | "$before" "$@"{on_failure}
fi
if [ ! -x {program} ]; then
    echo "reconciler:" {program} "is gone. Run reconciler hook install again, or remove $here/{name}." >&2
    exit {missing}
fi
printf '%s' "$input" | {program} hook run {name} --settings "$here/{settings}"
"""


@dataclass(frozen=True)
class Done:
    """What became of one hook: a sentence for people."""

    name: str
    what: str


def install(repo: Path, settings: HookSettings, program: Path | None = None) -> tuple[Done, ...]:
    """Puts both hooks into a bare repository; again is harmless and takes new settings over.

    A hook of before is renamed and runs first. SettingsFault when the folder is no bare repository, its hooks are shared
    with others (core.hooksPath, a link), or files stand in the way.
    """
    hooks = _hooks(repo)
    program = (program or _program()).absolute()
    for name in NAMES:
        _check(hooks, name)
    done = []
    _write(hooks / SETTINGS, written_settings(settings), 0o644)
    for name in NAMES:
        text = _script(name, program)
        path = hooks / name
        what = "installed"
        if path.exists():
            if not _ours(path):
                path.rename(hooks / f"{name}{BEFORE}")
                what = f"installed; the hook that was here runs first, as {name}{BEFORE}"
            else:
                what = "unchanged" if path.read_text(encoding="utf-8") == text else "updated"
        _write(path, text, 0o755)
        done.append(Done(name, what))
    return tuple(done)


def uninstall(repo: Path) -> tuple[Done, ...]:
    """Takes the hooks out, and puts those of before back. SettingsFault as `install`."""
    hooks = _hooks(repo)
    done = []
    for name in NAMES:
        path, before = hooks / name, hooks / f"{name}{BEFORE}"
        if not (os.path.lexists(path) and _ours(path)):
            done.append(Done(name, "was not installed"))
            continue
        path.unlink()
        what = "removed"
        if os.path.lexists(before):
            before.rename(path)
            what = "removed; the hook that was here before is back"
        done.append(Done(name, what))
    (hooks / SETTINGS).unlink(missing_ok=True)
    return tuple(done)


def _script(name: str, program: Path) -> str:
    receives = name == "pre-receive"
    return _SCRIPT.format(
        mark=_MARK,
        name=name,
        before=BEFORE,
        settings=SETTINGS,
        program=shlex.quote(str(program)),
        on_failure=" || exit $?" if receives else "",
        missing=1 if receives else 0,
    )


def _hooks(repo: Path) -> Path:
    """The folder of a bare repository's hooks. SettingsFault when it is none or not the repository's own."""
    hint = "hooks run where others push to: name the bare repository on the server"
    if not repo.is_dir():
        raise SettingsFault(f"there is no folder {repo}", hint=hint)
    repo = repo.resolve()
    if not all((repo / part).exists() for part in ("HEAD", "objects", "refs")):
        raise SettingsFault(f"{repo} is no bare repository", hint=hint)
    if elsewhere := _configured(repo):
        raise SettingsFault(
            f"core.hooksPath sends the hooks of {repo} to {elsewhere}",
            hint="other repositories may use them too; unset it, or call `reconciler hook run` from those hooks",
        )
    hooks = repo / "hooks"
    if hooks.is_symlink():
        raise SettingsFault(
            f"{hooks} is a link to {hooks.resolve()}, which other repositories may use too",
            hint="make it a folder of this repository, or call `reconciler hook run` from those hooks",
        )
    try:
        hooks.mkdir(exist_ok=True)
    except OSError as fault:
        raise SettingsFault(f"{hooks} cannot be made: {fault.strerror}") from fault
    return hooks


def _configured(repo: Path) -> str:
    """`core.hooksPath` as git sees it for this user and repository; "" when it is not set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "config", "--get", "core.hooksPath"],
            env={**environment, "GIT_DIR": str(repo)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise SettingsFault("git was not found", hint="install git 2.30 or newer") from fault
    return done.stdout.decode("utf-8", "replace").strip()


def _check(hooks: Path, name: str) -> None:
    path, before = hooks / name, hooks / f"{name}{BEFORE}"
    if os.path.lexists(path) and not path.exists():
        raise SettingsFault(f"{path} is a link to nothing", hint="remove it")
    if path.exists() and not path.is_file():
        raise SettingsFault(f"{path} is no file", hint="move it away")
    if path.exists() and not _ours(path) and os.path.lexists(before):
        raise SettingsFault(
            f"{path} is another hook, and {before} is kept from before",
            hint=f"merge the two into {before.name} (it runs first), remove {path.name}, and install again",
        )


def _ours(path: Path) -> bool:
    try:
        return not path.is_symlink() and _MARK.encode() in path.read_bytes()[:4096]
    except OSError:
        return False


def _program() -> Path:
    """The program itself, by its absolute path: a hook's search path is not ours."""
    beside = Path(sys.executable).parent / "reconciler"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    started = Path(sys.argv[0]).resolve()
    if started.is_file() and os.access(started, os.X_OK):
        return started
    raise SettingsFault("the reconciler program was not found", hint="install it, and call it by its name")


def _write(path: Path, text: str, mode: int) -> None:
    """Replaces a file in one step. SettingsFault when it cannot be."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        fresh.replace(path)
    except OSError as fault:
        with contextlib.suppress(OSError):
            fresh.unlink()
        hint = "run this as the user that owns the repository"
        raise SettingsFault(f"{path} cannot be written: {fault.strerror}", hint=hint) from fault
