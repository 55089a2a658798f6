"""The state directory: the database and, unless the key comes from elsewhere, the key."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SettingsFault
from reconciler.kit.clock import Clock, utc_now
from reconciler.secrets import keyring
from reconciler.store import identity
from reconciler.store.engine import Store

DATABASE = "state.sqlite"


@dataclass(frozen=True)
class CreatedState:
    """What `create_state` found or made. `created` and `existing` name the parts: folder, key, database.

    `key_source` says for people where the key is; `lineage` is the database's ULID.
    """

    folder: Path
    database: Path
    key_source: str
    lineage: str
    created: tuple[str, ...]
    existing: tuple[str, ...]


def create_state(
    folder: Path, environ: Mapping[str, str] = os.environ, *, clock: Clock = utc_now
) -> CreatedState:
    """Makes the state directory (0700), the key (0600) and the database (0600), each only where it is missing.

    SettingsFault when the folder is a symlink, foreign or open to others, or when there is a database but no key:
    a new key would not open it. WrongKey, StoreFault as `Store.open`.
    """
    made = {"folder": _make_folder(folder), "key": False, "database": False}
    database = folder / DATABASE
    with _locked(folder):
        keys = keyring.find(folder, environ)
        if keys is None:
            if database.exists():
                raise SettingsFault(
                    f"{database} exists but its key is missing ({folder / keyring.FILE}); a new key would not open it",
                    hint="put the key back from where you keep it; without it the stored secrets are lost",
                )
            keyring.write_file(folder / keyring.FILE, keyring.generate())
            made["key"] = True
            keys = keyring.load(folder, environ)
        made["database"] = not os.path.lexists(database)
        opener = Store.create if made["database"] else Store.open
        with opener(database, keys.box(), clock=clock) as store:
            lineage = store.read(identity.lineage)
    return CreatedState(
        folder,
        database,
        keys.source,
        lineage,
        tuple(part for part, new in made.items() if new),
        tuple(part for part, new in made.items() if not new),
    )


def open_state(folder: Path, environ: Mapping[str, str] = os.environ, *, clock: Clock = utc_now) -> Store:
    """Opens the database of the state directory `folder` with its key. SettingsFault, WrongKey, StoreFault's leaves."""
    if not os.path.lexists(folder):
        raise SettingsFault(
            f"there is no state directory {folder}",
            hint="run 'reconciler init' to make it, or name another one",
        )
    _check_folder(folder)
    return Store.open(folder / DATABASE, keyring.load(folder, environ).box(), clock=clock)


def _make_folder(folder: Path) -> bool:
    made = False
    if not os.path.lexists(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            made = True
        except FileExistsError:
            pass  # somebody else was quicker; judged below
        except OSError as error:
            raise SettingsFault(
                f"the state directory {folder} cannot be made: {error.strerror}",
                hint="name a folder that you may write to",
            ) from error
    _check_folder(folder)
    return made


def _check_folder(folder: Path) -> None:
    try:
        facts = folder.lstat()
    except OSError as error:
        raise SettingsFault(f"the state directory {folder} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(facts.st_mode):
        raise SettingsFault(f"the state directory {folder} is a symlink", hint="name the folder it points to")
    if not stat.S_ISDIR(facts.st_mode):
        raise SettingsFault(f"{folder} is not a folder", hint="name a folder for the state")
    if facts.st_uid != os.geteuid():
        raise SettingsFault(
            f"the state directory {folder} belongs to user {facts.st_uid}, not to {os.geteuid()}",
            hint="run this as the user that owns it",
        )
    if stat.S_IMODE(facts.st_mode) & 0o022:
        # whoever may write here can put another database or key in place
        raise SettingsFault(
            f"others may write to the state directory {folder} (mode {stat.S_IMODE(facts.st_mode):04o})",
            hint=f"chmod 700 {folder}",
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # two at once must not make two keys
        yield
    finally:
        os.close(handle)
