"""Where APP_KEY comes from: a systemd credential, the environment, or a file in the state directory.

The form is Laravel's, `base64:` and 32 bytes in base64, so a key made by `php artisan key:generate` works. Older keys
may follow, separated by commas or line ends: the first one seals, all of them open.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret
from reconciler.secrets.box import KEY_BYTES, Box

FILE = "app.key"
CREDENTIAL = "app_key"
VARIABLE = "APP_KEY"
_PREFIX = "base64:"
_MAX_BYTES = 64 * 1024
_FORM = "expected base64: followed by 32 bytes in base64 (44 characters); older keys may follow, separated by commas"


@dataclass(frozen=True, repr=False)
class Keyring:
    """The keys, current one first, each in its `base64:` form. `source` says for people where they came from."""

    keys: tuple[Secret, ...]
    source: str

    def __repr__(self) -> str:
        return f"Keyring({len(self.keys)} from {self.source})"

    def box(self) -> Box:
        """The box over these keys."""
        return Box([_bytes_of(key.reveal(), self.source) for key in self.keys])


def generate() -> Secret:
    """A new key from the operating system's random source, in its `base64:` form."""
    return Secret(_PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii"))


def parse(text: str, source: str) -> Keyring:
    """The keys in `text`. SettingsFault, which never quotes the text, when one is malformed or none is there."""
    found = tuple(Secret(part.strip()) for part in re.split(r"[,\r\n]", text) if part.strip())
    if not found:
        raise SettingsFault(f"{source} holds no key", hint=_FORM)
    for key in found:
        _bytes_of(key.reveal(), source)
    return Keyring(found, source)


def load(state: Path, environ: Mapping[str, str] = os.environ) -> Keyring:
    """The keys for the state directory `state`. SettingsFault when there are none or they are malformed."""
    found = find(state, environ)
    if found is None:
        raise SettingsFault(
            f"no APP_KEY: neither $CREDENTIALS_DIRECTORY/{CREDENTIAL}, nor ${VARIABLE}, nor {state / FILE}",
            hint=f"put the key back, or run 'reconciler init' if {state} was never set up",
        )
    return found


def find(state: Path, environ: Mapping[str, str] = os.environ) -> Keyring | None:
    """As `load`, but None when there is no key anywhere."""
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        # systemd owns this folder and its modes; its files are for this unit alone
        path = Path(credentials) / CREDENTIAL
        text = _read(path, private=False)
        if text is not None:
            return parse(text, f"the systemd credential {path}")
    if VARIABLE in environ:
        return parse(environ[VARIABLE], f"the environment variable {VARIABLE}")
    text = _read(state / FILE, private=True)
    return None if text is None else parse(text, str(state / FILE))


def write_file(path: Path, key: Secret) -> None:
    """Puts `key` into a new file of mode 0600, whole or not at all. FileExistsError when the file is there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(key.reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)  # unlike a rename, a link never replaces a key that is already there
    finally:
        draft.unlink()


def _read(path: Path, *, private: bool) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if private else 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsFault(
            f"the key file {path} cannot be read: {error.strerror}",
            hint="it must be a plain file that the daemon's user owns",
        ) from error
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise SettingsFault(f"{path} is not a plain file", hint="put the key into a plain file")
        if private and facts.st_uid != os.geteuid():
            raise SettingsFault(
                f"the key file {path} belongs to user {facts.st_uid}, not to {os.geteuid()}",
                hint="run as the user that owns the state directory, or chown the file",
            )
        if private and stat.S_IMODE(facts.st_mode) & 0o077:
            raise SettingsFault(
                f"the key file {path} is open to others (mode {stat.S_IMODE(facts.st_mode):04o})",
                hint=f"chmod 600 {path}, and consider a new key if others had access",
            )
        data = file.read(_MAX_BYTES)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise SettingsFault(f"{path} does not hold a key", hint=_FORM) from None


def _bytes_of(text: str, source: str) -> bytes:
    if not text.startswith(_PREFIX):
        raise SettingsFault(f"{source} holds a malformed key: it does not start with {_PREFIX}", hint=_FORM)
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsFault(f"{source} holds a malformed key: it is not base64", hint=_FORM) from None
    if len(key) != KEY_BYTES:
        raise SettingsFault(
            f"{source} holds a malformed key: {len(key)} bytes instead of {KEY_BYTES}", hint=_FORM
        )
    return key
