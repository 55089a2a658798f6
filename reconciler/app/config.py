"""The daemon's settings: found, read, checked and told with places; read again at a reload.

Every problem of the file comes in one pass, as `path:line:col: message (hint)`. What is not settled by a file has a
default: `Config.default` serves one fleet without any.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import ValidationError

from reconciler.app import secretrefs
from reconciler.app.config_channels import CHANNELS, AnyChannel, channel
from reconciler.app.config_model import (
    FleetSettings,
    GitSettings,
    GuardSettings,
    HttpSettings,
    LimitSettings,
    LogSettings,
    SettingsFile,
)
from reconciler.desired import remotes, source, validation, yamldoc
from reconciler.desired.places import DocumentRef, Places
from reconciler.desired.problems import Problem, Source
from reconciler.desired.validation import Fault, Subject
from reconciler.errors import InvalidSettings, SettingsFault, SourceFault
from reconciler.kit.text import count, did_you_mean
from reconciler.notify.settings import Channel

VARIABLE = "RECONCILER_CONFIG"
FILE = "reconciler.yaml"
SYSTEM = Path("/etc/reconciler") / FILE


@dataclass(frozen=True)
class Config:
    """The settings. `path` is their file (None: defaults); `warnings` are problems that do not stop anything.

    Lengths of time are seconds; secrets are `Secret`s that were read with the file.
    """

    fleets: tuple[FleetSettings, ...]
    git: GitSettings = field(default_factory=GitSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    guards: GuardSettings = field(default_factory=GuardSettings)
    http: HttpSettings | None = None
    log: LogSettings = field(default_factory=LogSettings)
    checks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notifications: tuple[Channel, ...] = ()
    path: Path | None = None
    warnings: tuple[Problem, ...] = ()

    @staticmethod
    def default(fleet: Path, *, branch: str = "main", subpath: str = "") -> Config:
        """The settings for one local repository, or a folder of one, as `main`. SourceFault when there is none."""
        repository, inside = source.locate(fleet)
        path = "/".join(part for part in (inside, subpath) if part)
        given = {"remotes": [str(repository.absolute())], "branch": branch, "path": path}
        try:
            return Config((FleetSettings.model_validate_json(json.dumps(given)),))
        except ValidationError as fault:
            said = "; ".join(f.message for f in validation.faults(fault, Subject(FleetSettings)))
            raise SettingsFault(f"{fleet} cannot be served: {said}") from None

    def fleet(self, name: str) -> FleetSettings:
        """One fleet. SettingsFault for a name that is none."""
        found = next((fleet for fleet in self.fleets if fleet.name == name), None)
        if found is None:
            known = [fleet.name for fleet in self.fleets]
            hint = did_you_mean(name, known) or f"fleets: {', '.join(known)}"
            raise SettingsFault(f"there is no fleet {name!r} in the settings", hint=hint)
        return found


@dataclass(frozen=True)
class Reloaded:
    """How a reload went. With a `fault`, `config` is what held before; else `changed` names the sections that differ."""

    config: Config
    changed: tuple[str, ...] = ()
    fault: SettingsFault | None = None

    def __str__(self) -> str:
        if self.fault is not None:
            return f"the settings are kept as they were: {self.fault.message}"
        return (
            f"the settings changed: {', '.join(self.changed)}"
            if self.changed
            else "the settings are as before"
        )


def find(given: Path | None, state: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file: `given` (--config), $RECONCILER_CONFIG, the state directory's, /etc's; None when there is none.

    SettingsFault when one that is named is not there.
    """
    named = environ.get(VARIABLE)
    for path, word in ((given, "--config"), (Path(named) if named else None, f"${VARIABLE}")):
        if path is not None:
            if not path.is_file():
                raise SettingsFault(f"there is no settings file {path}", hint=f"{word} names it")
            return path.absolute()
    return next((path for path in (state.absolute() / FILE, SYSTEM) if path.is_file()), None)


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings in a file. InvalidSettings with all its problems, SettingsFault when it cannot be read."""
    return _Load(path, _content(path), environ).run()


def reload(old: Config, environ: Mapping[str, str] = os.environ) -> Reloaded:
    """The settings read again from the same file; the old ones when that fails. Never raises for what is in the file."""
    if old.path is None:
        return Reloaded(old)
    try:
        new = load(old.path, environ)
    except SettingsFault as fault:
        return Reloaded(old, fault=fault)
    named = [f.name for f in fields(Config) if f.name not in ("path", "warnings")]
    return Reloaded(new, tuple(name for name in named if getattr(old, name) != getattr(new, name)))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(yamldoc.MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise SettingsFault(f"the settings file {path} cannot be read: {fault.strerror}") from fault
    if mode & 0o002:
        # its checks are programs that run as the daemon
        raise SettingsFault(
            f"anybody may write to the settings file {path} (mode {mode:04o})", hint=f"chmod 640 {path}"
        )
    return content


class _Load:
    """One reading of a settings file."""

    def __init__(self, path: Path, content: bytes, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._parsed = yamldoc.parse(str(path), content)
        self._places = Places({str(path): content})
        self._document = DocumentRef(str(path), 0)
        self._problems = list(self._parsed.problems)

    def run(self) -> Config:
        """The settings, or InvalidSettings."""
        data = self._data()
        if data is None:
            raise self._invalid()
        settings = self._settings(data)
        channels = tuple(self._channels(data.get("notifications")))
        for path, code, message, hint in _across(data):
            self._add(path, code, message, hint)
        if settings is None or any(p.severity == "error" for p in self._problems):
            raise self._invalid()
        warnings = (
            Problem(self._places.value(self._document, at), "open-to-others", said, severity="warning")
            for at, said in secretrefs.open_files(data)
        )
        return Config(
            settings.fleets,
            settings.git,
            settings.limits,
            settings.guards,
            settings.http,
            settings.log,
            settings.checks,
            channels,
            self._path,
            tuple(sorted(warnings)),
        )

    def _data(self) -> dict[str, yamldoc.Value] | None:
        documents = [d for d in self._parsed.documents if d.data is not None]
        if len(documents) > 1:
            message = "the settings are one YAML document, and this is another"
            self._problems.append(
                Problem(documents[1].source, "second-document", message, "is there a `---` too much?")
            )
        if not documents:
            if not self._problems:
                message, hint = "the settings are empty", "`fleets` at least must be there"
                self._problems.append(Problem(Source(str(self._path)), "empty", message, hint))
            return None
        self._document = DocumentRef(str(self._path), documents[0].index)
        data = documents[0].data
        if not isinstance(data, dict):
            message = "the settings must be a map with fleets, git, limits and so on"
            self._problems.append(Problem(documents[0].source, "wrong-type", message))
            return None
        return data if documents[0].complete else None

    def _settings(self, data: Mapping[str, yamldoc.Value]) -> SettingsFile | None:
        try:
            return SettingsFile.model_validate_json(json.dumps(data), context=self._environ)
        except ValidationError as error:
            self._faults(error, Subject(SettingsFile, (), (), self._written))
            return None

    def _channels(self, items: yamldoc.Value) -> Iterator[Channel]:
        for number, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue  # told with the rest of the file
            at = ("notifications", number)
            model = CHANNELS.get(str(item.get("type")))
            try:
                if model is None:
                    AnyChannel.model_validate_json(json.dumps(item))
                else:
                    yield channel(model.model_validate_json(json.dumps(item), context=self._environ))
            except ValidationError as error:
                self._faults(error, Subject(model or AnyChannel, at, (), self._written))
            except SettingsFault as fault:
                self._add(at, "bad-value", fault.message, fault.hint)

    def _written(self, path: yamldoc.Path) -> str | None:
        return self._places.written(self._document, path)

    def _faults(self, error: ValidationError, subject: Subject) -> None:
        noted = {p.source for p in self._problems}
        for fault in validation.faults(error, subject):
            at = self._at(fault)
            if at not in noted:  # what the YAML reader said of this place is the cause
                self._problems.append(Problem(at, fault.code, fault.message, fault.hint))

    def _at(self, fault: Fault) -> Source:
        find_place = self._places.key if fault.at_key else self._places.value
        return find_place(self._document, fault.path)

    def _add(self, path: yamldoc.Path, code: str, message: str, hint: str) -> None:
        self._problems.append(Problem(self._places.value(self._document, path), code, message, hint))

    def _invalid(self) -> InvalidSettings:
        problems = tuple(sorted(set(self._problems)))
        return InvalidSettings(f"{self._path} has {count(len(problems), 'problem')}", problems)


_Told = tuple[yamldoc.Path, str, str, str]


def _across(data: Mapping[str, yamldoc.Value]) -> Iterator[_Told]:
    """Rules between fields, judged on the plain data so that a mistake elsewhere does not hide them."""
    fleets = [f if isinstance(f, dict) else {} for f in _list(data.get("fleets"))]
    yield from _twice("fleets", fleets, "fleet")
    yield from _twice(
        "notifications", [n for n in _list(data.get("notifications")) if isinstance(n, dict)], "channel"
    )
    for number, fleet in enumerate(fleets):
        if len(fleets) > 1 and "name" not in fleet:
            yield (
                ("fleets", number),
                "missing-field",
                f"fleets[{number}].name is missing",
                "several fleets need names",
            )
        for at, remote in enumerate(_list(fleet.get("remotes"))):
            if isinstance(remote, str):
                yield from _reachable(("fleets", number, "remotes", at), remote, data.get("git"))


def _list(value: yamldoc.Value) -> list[yamldoc.Value]:
    return value if isinstance(value, list) else []


def _twice(section: str, items: list[dict[str, yamldoc.Value]], noun: str) -> Iterator[_Told]:
    names: dict[str, int] = {}
    for number, item in enumerate(items):
        name = item.get("name")
        if isinstance(name, str) and names.setdefault(name, number) != number:
            message = f"{section}[{number}].name is {name!r}, as that of {section}[{names[name]}]"
            yield (section, number, "name"), "duplicate-name", message, f"give each {noun} a name of its own"


def _reachable(path: yamldoc.Path, address: str, git: yamldoc.Value) -> Iterator[_Told]:
    try:
        remote = remotes.parse(address)
    except SourceFault:
        return  # told as a value of its field
    git = git if isinstance(git, dict) else {}
    told, allowed = validation.dotted(path), git.get("protocols", list(remotes.PROTOCOLS))
    if isinstance(allowed, list) and remote.protocol not in allowed:
        hint = f"allowed: {', '.join(map(str, allowed))}"
        yield (
            path,
            "bad-value",
            f"{told} is reached by {remote.protocol}, which git.protocols leaves out",
            hint,
        )
    if remote.protocol != "ssh":
        return
    if git.get("sshKey") is None:
        yield (
            path,
            "missing-field",
            f"{told} is reached by ssh, and git.sshKey is missing",
            "no other key is tried",
        )
    if git.get("knownHosts") is None:
        hint = "write `ssh-keyscan HOST` into a file, compare the keys with the host's own, and name the file there"
        yield path, "missing-field", f"{told} is reached by ssh, and git.knownHosts is missing", hint
