"""Values of the settings beyond plain words and numbers: durations, shares, addresses, branches, programs."""

from __future__ import annotations

import os
import re
import shutil
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from reconciler.desired import remotes
from reconciler.desired.kinds.common import Means
from reconciler.desired.scalars import DURATION_PATTERN, seconds
from reconciler.errors import SourceFault
from reconciler.kit.text import did_you_mean

PLACEHOLDERS = ("site", "domain", "server", "address")
"""What a check's arguments may hold in braces."""

_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")
_SOCKET_PATH = 107
"""sockaddr_un has 108 bytes, the last one zero: unix(7)."""


def _text(value: object, rule: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text: {rule}")  # noqa: TRY004 - pydantic takes this one for a fault of the value
    return value


@dataclass(frozen=True)
class Span(Means):
    """Metadata of a float: in the file a duration from `low` to `high`, in the program seconds."""

    low: str = "0s"
    high: str = "720h"

    def _seconds(self, value: object) -> float:
        text = _text(value, self.rule)
        length = seconds(text)
        if not seconds(self.low) <= length <= seconds(self.high):
            raise ValueError(f"is {text}; it must be from {self.low} to {self.high}")
        return length

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._seconds)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": DURATION_PATTERN, "minLength": 2}


def span(low: str, high: str) -> Span:
    """The metadata of a duration between two others."""
    return Span("duration", f"a duration from {low} to {high}, such as 45s, 10m or 1h30m", low=low, high=high)


def _share(value: object) -> float:
    rule = 'a share from "0%" to "100%"'
    match = re.fullmatch(r"([0-9]{1,3})%", _text(value, rule))
    if match is None or int(match[1]) > 100:
        raise ValueError(f"must be {rule}")
    return int(match[1]) / 100


Share = Annotated[
    float,
    PlainValidator(_share),
    Means("share", 'a share from "0%" to "100%"'),
    WithJsonSchema({"type": "string", "pattern": "^(100|[0-9]{1,2})%$"}),
]
"""In the file a percentage, in the program a number from 0 to 1."""


@dataclass(frozen=True)
class Listen:
    """Where the daemon answers HTTP: a host and port, or (`path` set) a socket in the file system."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


def listen(value: object) -> Listen:
    """`127.0.0.1:8420`, `[::1]:8420` or `unix:/run/reconciler/http.sock`. ValueError for anything else."""
    rule = "must be ADDRESS:PORT such as 127.0.0.1:8420, or unix:/path"
    text = _text(value, "such as 127.0.0.1:8420")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{rule}; the path after unix: must be absolute")
        if len(os.fsencode(path)) > _SOCKET_PATH:
            raise ValueError(f"has a path of more than {_SOCKET_PATH} bytes, which no socket can have")
        return Listen(path=Path(path))
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(rule)
    return Listen(host.strip("[]"), int(port))


ListenAddress = Annotated[
    Listen,
    PlainValidator(listen),
    Means("address", "ADDRESS:PORT such as 127.0.0.1:8420, or unix:/path"),
    WithJsonSchema({"type": "string"}),
]


def _branch(value: str) -> str:
    try:
        remotes.check_branch(value)
    except SourceFault:
        raise ValueError("is not the name of a branch") from None
    return value


Branch = Annotated[str, AfterValidator(_branch), Means("branch")]


def _folder(value: str) -> str:
    parts = value.split("/")
    if value.startswith("/") or ".." in parts or not value.isprintable():
        raise ValueError("must be a folder within the repository, such as hosting/prod")
    return "/".join(part for part in parts if part not in ("", "."))


Folder = Annotated[str, AfterValidator(_folder), Means("folder", "a folder within the repository")]


def _existing(value: object) -> Path:
    text = _text(value, "an absolute path")
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    path = Path(text)
    try:
        path.stat()
    except OSError as fault:
        raise ValueError(f"is {path}, which cannot be read: {fault.strerror}") from fault
    return path


ExistingPath = Annotated[
    Path,
    PlainValidator(_existing),
    Means("path", "the absolute path of something that exists"),
    WithJsonSchema({"type": "string", "pattern": "^/"}),
]


def _command(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """A program that is there, and arguments whose braces are known."""
    if not arguments or not arguments[0]:
        raise ValueError("must be a program and its arguments")
    for argument in arguments:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(argument) if name is not None]
        except ValueError:
            raise ValueError(f"has unpaired braces in {argument!r}; write {{{{ for a brace") from None
        for name in names:
            if name not in PLACEHOLDERS:
                hint = did_you_mean(name, PLACEHOLDERS) or f"known: {', '.join(PLACEHOLDERS)}"
                raise ValueError(f"has the unknown placeholder {{{name}}}; {hint}")
    program = arguments[0]
    if "{" in program:
        raise ValueError("names its program by a placeholder: manifests must not choose what runs here")
    if shutil.which(program) is None:
        raise ValueError(f"runs {program}, which is no program that can be run here")
    return arguments


Command = Annotated[
    tuple[str, ...], AfterValidator(_command), Means("command", "a list: a program and its arguments")
]
"""An argument list; no shell. In arguments `{site}`, `{domain}`, `{server}` and `{address}` are put in."""
