"""Secrets of the settings: named by `{file: …}`, `{env: …}` or `{credential: …}` and read when the settings are read.

A credential is a file in `$CREDENTIALS_DIRECTORY`, as systemd.exec(5) sets it up for `LoadCredential=`. No message here
repeats a secret, nor a text that stands where a secret's place should be: it may be one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from reconciler.desired import remotes
from reconciler.desired.kinds.common import Means
from reconciler.desired.yamldoc import Path as Field
from reconciler.desired.yamldoc import Value
from reconciler.errors import SourceFault
from reconciler.kit.secret import Secret
from reconciler.kit.text import did_you_mean

FORMS = "{file: /path}, {env: NAME} or {credential: NAME}"
_PLACES = ("file", "env", "credential")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_MAX_BYTES = 64 * 1024
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {
        "file": {"type": "string", "pattern": "^/", "description": "File that holds it."},
        "env": {"type": "string", "description": "Environment variable of the daemon that holds it."},
        "credential": {"type": "string", "description": "systemd credential that holds it."},
    },
}


def read(value: object, environ: Mapping[str, str]) -> Secret:
    """The secret that `value`, one of `FORMS`, names. ValueError, worded to follow a field's name."""
    place, name = _place(value)
    if place == "env":
        text = environ.get(name)
        if text is None:
            raise ValueError(f"names the environment variable {name}, which is not set for the daemon")
        return _checked(text, f"the environment variable {name}")
    path = _path(place, name, environ)
    return _checked(_content(path), str(path))


def locate(value: object, environ: Mapping[str, str]) -> Path:
    """The file of a secret that a program has to read by itself, such as ssh. ValueError for `{env: …}` and as `read`."""
    place, name = _place(value)
    if place == "env":
        raise ValueError("must be {file: /path} or {credential: NAME}: ssh reads its key from a file")
    path = _path(place, name, environ)
    _checked(_content(path), str(path))
    facts = path.stat()
    if facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
        # as OpenSSH judges it: authfile.c, sshkey_perm_ok
        raise ValueError(f"names {path}, which ssh refuses, since others may read it; chmod 600 {path}")
    return path


def open_files(value: Value, path: Field = ()) -> Iterator[tuple[Field, str]]:
    """The fields `{file: …}` at any depth of `value` whose file others may read, each with a sentence on it."""
    match value:
        case {"file": str(name), **others} if not others:
            try:
                mode = stat.S_IMODE(Path(name).stat().st_mode)
            except OSError:
                return  # told by whoever reads it
            # the group may be the daemon's, with root as the owner
            if mode & 0o027:
                yield (*path, "file"), f"{name} is open to others (mode {mode:04o}); chmod o=,g-w {name}"
        case dict():
            for key, item in value.items():
                yield from open_files(item, (*path, key))
        case list():
            for number, item in enumerate(value):
                yield from open_files(item, (*path, number))
        case _:
            return


def _place(value: object) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"must be {FORMS}; secrets are never in the settings in clear")  # noqa: TRY004 - pydantic's
    unknown = next((key for key in value if key not in _PLACES), None)
    if unknown is not None:
        raise ValueError(
            f"has the unknown field {unknown!r}; {did_you_mean(unknown, _PLACES) or f'write {FORMS}'}"
        )
    if len(value) != 1:
        raise ValueError(f"must be exactly one of {FORMS}")
    ((place, name),) = value.items()
    if not isinstance(name, str) or not name:
        raise ValueError(f"must be {FORMS}, with a text")
    return place, _fitting(place, name)


def _fitting(place: str, name: str) -> str:
    match place:
        case "file" if not name.startswith("/"):
            raise ValueError(
                "names no absolute path of a file (what it names is not shown: it may be a secret)"
            )
        case "env" if not _VARIABLE.fullmatch(name):
            raise ValueError("names no environment variable (what it names is not shown: it may be a secret)")
        case "credential" if not _CREDENTIAL.fullmatch(name):
            raise ValueError("names no systemd credential (what it names is not shown: it may be a secret)")
        case _:
            return name


def _path(place: str, name: str, environ: Mapping[str, str]) -> Path:
    if place == "file":
        return Path(name)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            f"names the systemd credential {name}, but $CREDENTIALS_DIRECTORY is not set: "
            f"only a unit with LoadCredential={name}:… has it"
        )
    return Path(folder) / name


def _content(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as fault:
        raise ValueError(f"names {path}, which cannot be read: {fault.strerror}") from fault
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"names {path}, which is no plain file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(_MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"names {path}, which has more than {_MAX_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"names {path}, which is not UTF-8 text") from None


def _checked(text: str, where: str) -> Secret:
    text = text.strip("\r\n")
    if not text.strip():
        raise ValueError(f"names {where}, which is empty")
    return Secret(text)


def environ_of(info: ValidationInfo) -> Mapping[str, str]:
    """The environment that the settings are read in: the context of the validation."""
    context = info.context
    return context if isinstance(context, Mapping) else {}


def _secret(value: object, info: ValidationInfo) -> Secret:
    return read(value, environ_of(info))


def _secrets(value: object, info: ValidationInfo) -> tuple[Secret, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError(f"must hold at least one of {FORMS}")
    return tuple(read(item, environ_of(info)) for item in items)


def _secret_or_text(value: object, info: ValidationInfo) -> Secret:
    return Secret(value) if isinstance(value, str) else read(value, environ_of(info))


def _remote(value: object, info: ValidationInfo) -> Secret:
    address = Secret(value) if isinstance(value, str) else read(value, environ_of(info))
    try:
        remote = remotes.parse(address.reveal())
    except SourceFault as fault:
        # not repeated: what is no address may be a password
        raise ValueError(f"is no address of a repository; {fault.hint}") from None
    if isinstance(value, str) and remote.header is not None:
        raise ValueError(
            "holds a login in clear; put the whole address into a file and write {file: /path} here"
        )
    return address


def _key_file(value: object, info: ValidationInfo) -> Path:
    return locate(value, environ_of(info))


SecretText = Annotated[Secret, PlainValidator(_secret), Means("secret", FORMS), WithJsonSchema(_SCHEMA)]
"""A secret, read from where the settings say it is."""

SecretTexts = Annotated[
    tuple[Secret, ...],
    PlainValidator(_secrets),
    Means("secret", f"{FORMS}, or a list of them"),
    WithJsonSchema({"oneOf": [_SCHEMA, {"type": "array", "minItems": 1, "items": _SCHEMA}]}),
]
"""One secret or several; the first is the current one, the others are on their way in or out."""

SecretUrl = Annotated[
    Secret,
    PlainValidator(_secret_or_text),
    Means("URL", f"an https:// address, or {FORMS} when it is a secret"),
    WithJsonSchema({"oneOf": [{"type": "string"}, _SCHEMA]}),
]
"""A text that may be a secret: in clear, or read from where the settings say it is."""

RemoteAddress = Annotated[
    Secret,
    PlainValidator(_remote),
    Means(
        "remote",
        f"ssh://…, user@host:path, https://…, an absolute path, or {FORMS} when it holds a login",
        "remotes",
    ),
    WithJsonSchema({"oneOf": [{"type": "string", "minLength": 1}, _SCHEMA]}),
]
"""Where a repository is fetched from."""

KeyFile = Annotated[
    Path,
    PlainValidator(_key_file),
    Means("key file", "{file: /path} or {credential: NAME}"),
    WithJsonSchema(_SCHEMA),
]
"""A private key that another program reads: the path of its file, which is there and can be read."""
