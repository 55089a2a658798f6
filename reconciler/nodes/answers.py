"""What the agent answers, as typed values. Unknown fields are passed over; a missing or mistyped one is `Malformed`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast, get_args

from reconciler.kit.canonical import Json

Action = Literal["create", "update", "delete"]
OutcomeState = Literal["succeeded", "failed", "interrupted"]
SectionState = Literal["succeeded", "failed", "skipped", "unchanged"]
PackageManager = Literal["dnf", "apt"]
CancelState = Literal["stopping", "ended", "unknown"]
Confirmed = Literal["confirmed", "undone"]
GapReason = Literal["rotated", "truncated"]
SelinuxState = Literal["enforcing", "permissive", "disabled"]

Object = Mapping[str, Json]
T = TypeVar("T")
_LONGEST_CURSOR = 16 * 1024


class Malformed(ValueError):
    """The agent's answer is not of the form that docs/protocol.md says; the text names the field."""


@dataclass(frozen=True)
class Facts:
    """What a node says about itself. `os_id` and `os_like` are ID and ID_LIKE of its /etc/os-release.

    `selinux_policy` is the name of the loaded policy (`targeted`), `selinux_policy_version` the newest format of policies
    that the kernel reads, `selinux_module` a digest of our module as it is installed; empty where there is none.
    """

    os_id: str
    os_version: str
    os_like: str
    hostname: str
    kernel: str
    arch: str
    package_manager: PackageManager
    selinux: SelinuxState
    boot_id: str
    machine_id: str
    selinux_policy: str = ""
    selinux_policy_version: str = ""
    selinux_module: str = ""


@dataclass(frozen=True)
class CertificateFact:
    """The certificate that a site has on its node."""

    site: str
    names: tuple[str, ...]
    ends: datetime
    issuer: str
    self_signed: bool


@dataclass(frozen=True)
class RebootFact:
    """Whether a node has to be rebooted: why, in a few words, and the names of the packages that ask for it."""

    needed: bool = False
    why: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hello:
    """The agent's introduction. `agent` and `bundle` are sha256, `running` a deployment id; empty when there is none."""

    agent: str
    python: str
    facts: Facts
    bundle: str
    running: str
    fence: int
    certificates: tuple[CertificateFact, ...] = ()
    reboot: RebootFact | None = None
    """None when the agent does not tell, as those of before."""


@dataclass(frozen=True)
class FieldChange:
    """One field of one step that differs: what the node shows and what the bundle says."""

    field: str
    before: Json
    after: Json


@dataclass(frozen=True)
class Difference:
    """One step whose target differs. `section` is its section's id, `key` the step's key."""

    section: str
    key: str
    action: Action
    changes: tuple[FieldChange, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class CheckResult:
    """The answer to `check`. Not `known`: the node keeps another bundle, so nothing was compared; send the bundle."""

    known: bool
    in_sync: bool
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What an apply would do, and the sha256 of the bodies that it needs and the node lacks."""

    differences: tuple[Difference, ...]
    wants: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """One event of an apply: number from 1, time (RFC 3339), type, and what else it carries in `data`."""

    n: int
    at: str
    type: str
    section: str = ""
    key: str = ""
    data: Object = field(default_factory=dict)


@dataclass(frozen=True)
class SectionOutcome:
    """How one section ended. `kept`: keys of its steps that could not be rolled back."""

    state: SectionState
    changed: int
    message: str = ""
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How an apply ended. `doubt` names the step without a result when the node went down in the middle.

    `cancelled`: a cancel was there before the end; what it stopped are the sections whose message is "cancelled".
    `versions`: what the package database has of each piece of software that the sections want, such as `php-8.2`.
    `confirm`: `wanted` while the node will undo what could have locked us out, within `confirm_seconds` of it, unless that
    is confirmed; `given` or `undone` afterwards; empty when there was nothing of the kind.
    """

    deployment: str
    state: OutcomeState
    sections: Mapping[str, SectionOutcome]
    reloaded: tuple[str, ...] = ()
    started_at: str = ""
    finished_at: str = ""
    doubt: str = ""
    cancelled: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    confirm: str = ""
    confirm_seconds: int = 0


@dataclass(frozen=True)
class Offer:
    """An installed package's version, and the newer one that its node's repositories have, None when they have none."""

    installed: str
    available: str | None


@dataclass(frozen=True)
class UnitState:
    """How a unit is doing, in systemd's words (ActiveState, SubState, Result, NRestarts, Description, LoadState).

    A unit that does not exist has `load` "not-found" and is `inactive`.
    """

    active: str
    sub: str
    result: str
    restarts: int
    description: str
    load: str = "loaded"


@dataclass(frozen=True)
class Denied:
    """One event that SELinux recorded, or `count` equal ones: the lines of the first, and when the first and the last
    were, in seconds since 1970 by the node's clock."""

    lines: tuple[str, ...]
    count: int
    first: float
    last: float


@dataclass(frozen=True)
class Gap:
    """Records that were lost before they were read, after `since` and before `until` (None: not known)."""

    since: float | None
    until: float | None
    reason: GapReason


@dataclass(frozen=True)
class Denials:
    """The answer to `avc`. `cursor` is to be kept and sent with the next request. Not `log`: the node keeps none.

    `now` is the node's clock when it answered, in seconds since 1970; with `more` the next request finds more at once.
    """

    log: bool
    now: float
    cursor: Object | None
    events: tuple[Denied, ...] = ()
    gap: Gap | None = None
    more: bool = False


def _get(source: Object, name: str, kind: type[T], where: str) -> T:
    value = source.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Malformed(f"{where}.{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _text(source: Object, name: str, where: str) -> str:
    """A text that may be missing or null, then empty."""
    return "" if source.get(name) is None else _get(source, name, str, where)


def _one_of(source: Object, name: str, known: object, where: str) -> str:
    value = _get(source, name, str, where)
    if value not in get_args(known):
        raise Malformed(f"{where}.{name} is {value!r}, not one of {', '.join(get_args(known))}")
    return value


def _list(source: Object, name: str, read: Callable[[Json], T], where: str) -> tuple[T, ...]:
    """A list that may be missing or null, then empty."""
    value = source.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed(f"{where}.{name} is {type(value).__name__}, not list")
    return tuple(read(item) for item in value)


def _object(value: Json, where: str) -> Object:
    if not isinstance(value, dict):
        raise Malformed(f"{where} is {type(value).__name__}, not an object")
    return value


def _word(value: Json) -> str:
    if not isinstance(value, str):
        raise Malformed(f"an item is {type(value).__name__}, not str")
    return value


def facts(value: Json) -> Facts:
    """Reads `facts`."""
    source = _object(value, "facts")
    return Facts(
        os_id=_get(source, "os_id", str, "facts"),
        os_version=_text(source, "os_version", "facts"),
        os_like=_text(source, "os_like", "facts"),
        hostname=_text(source, "hostname", "facts"),
        kernel=_text(source, "kernel", "facts"),
        arch=_text(source, "arch", "facts"),
        package_manager=cast("PackageManager", _one_of(source, "package_manager", PackageManager, "facts")),
        selinux=cast("SelinuxState", _one_of(source, "selinux", SelinuxState, "facts")),
        boot_id=_text(source, "boot_id", "facts"),
        machine_id=_text(source, "machine_id", "facts"),
        selinux_policy=_text(source, "selinux_policy", "facts"),
        selinux_policy_version=_text(source, "selinux_policy_version", "facts"),
        selinux_module=_text(source, "selinux_module", "facts"),
    )


def _array(source: Object, name: str) -> Sequence[Json]:
    """A list that agents of before leave out."""
    found = source.get(name, [])
    if not isinstance(found, list | tuple):
        raise Malformed(f"hello.{name} is {type(found).__name__}, not list")
    return found


def _certificate(value: Json) -> CertificateFact:
    source = _object(value, "certificate")
    ends = _get(source, "ends", int, "certificate")
    try:
        at = datetime.fromtimestamp(ends, UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed("certificate.ends is no time") from None
    return CertificateFact(
        site=_get(source, "site", str, "certificate"),
        names=tuple(_word(name) for name in _array(source, "names")),
        ends=at,
        issuer=_text(source, "issuer", "certificate"),
        self_signed=_get(source, "self_signed", bool, "certificate"),
    )


def _reboot(value: Json) -> RebootFact:
    source = _object(value, "reboot")
    return RebootFact(
        needed=_get(source, "needed", bool, "reboot"),
        why=_text(source, "why", "reboot"),
        packages=tuple(_word(name) for name in _array(source, "packages")),
    )


def hello(source: Object) -> Hello:
    """Reads the result of `hello`."""
    return Hello(
        agent=_get(source, "agent", str, "hello"),
        python=_text(source, "python", "hello"),
        facts=facts(source.get("facts")),
        bundle=_text(source, "bundle", "hello"),
        running=_text(source, "running", "hello"),
        fence=_get(source, "fence", int, "hello"),
        certificates=tuple(_certificate(item) for item in _array(source, "certificates")),
        reboot=None if source.get("reboot") is None else _reboot(source["reboot"]),
    )


def difference(value: Json) -> Difference:
    """Reads one `Difference`."""
    source = _object(value, "difference")
    return Difference(
        section=_get(source, "section", str, "difference"),
        key=_get(source, "key", str, "difference"),
        action=cast("Action", _one_of(source, "action", Action, "difference")),
        changes=_list(source, "changes", _change, "difference"),
        note=_text(source, "note", "difference"),
    )


def _change(value: Json) -> FieldChange:
    source = _object(value, "change")
    return FieldChange(_get(source, "field", str, "change"), source.get("from"), source.get("to"))


def check(source: Object) -> CheckResult:
    """Reads the result of `check`."""
    in_sync = _get(source, "in_sync", bool, "check")
    return CheckResult(
        known=True, in_sync=in_sync, differences=_list(source, "differences", difference, "check")
    )


def prepared(source: Object) -> Prepared:
    """Reads the result of `prepare`."""
    return Prepared(
        _list(source, "differences", difference, "prepare"), _list(source, "wants", _word, "prepare")
    )


def event(value: Json) -> Event:
    """Reads one event; a type that this version does not know is kept as it is."""
    source = _object(value, "event")
    own = {"n", "at", "type", "section", "key"}
    return Event(
        n=_get(source, "n", int, "event"),
        at=_get(source, "at", str, "event"),
        type=_get(source, "type", str, "event"),
        section=_text(source, "section", "event"),
        key=_text(source, "key", "event"),
        data={name: item for name, item in source.items() if name not in own},
    )


def _section(value: Json) -> SectionOutcome:
    source = _object(value, "section")
    return SectionOutcome(
        state=cast("SectionState", _one_of(source, "state", SectionState, "section")),
        changed=_get(source, "changed", int, "section") if "changed" in source else 0,
        message=_text(source, "message", "section"),
        kept=_list(source, "kept", _word, "section"),
    )


def outcome(source: Object) -> Outcome:
    """Reads an outcome, the result of `apply` and `status`."""
    sections = _object(source.get("sections"), "outcome.sections")
    return Outcome(
        deployment=_get(source, "deployment", str, "outcome"),
        state=cast("OutcomeState", _one_of(source, "state", OutcomeState, "outcome")),
        sections={name: _section(item) for name, item in sections.items()},
        reloaded=_list(source, "reloaded", _word, "outcome"),
        started_at=_text(source, "started_at", "outcome"),
        finished_at=_text(source, "finished_at", "outcome"),
        doubt=_text(source, "doubt", "outcome"),
        cancelled=_get(source, "cancelled", bool, "outcome") if "cancelled" in source else False,
        versions={
            name: _word(item) for name, item in _object(source.get("versions", {}), "versions").items()
        },
        confirm=_text(source, "confirm", "outcome"),
        confirm_seconds=_get(source, "confirm_seconds", int, "outcome") if source.get("confirm") else 0,
    )


def cancel(source: Object) -> CancelState:
    """Reads the result of `cancel`."""
    return cast("CancelState", _one_of(source, "state", CancelState, "cancel"))


def confirm(source: Object) -> Confirmed:
    """Reads the result of `confirm`."""
    return cast("Confirmed", _one_of(source, "state", Confirmed, "confirm"))


def units(source: Object) -> Mapping[str, UnitState]:
    """Reads the result of `units`."""
    found = _object(source.get("units"), "units.units")
    return {name: _unit(item) for name, item in found.items()}


def _unit(value: Json) -> UnitState:
    source = _object(value, "unit")
    return UnitState(
        active=_get(source, "active", str, "unit"),
        sub=_text(source, "sub", "unit"),
        result=_text(source, "result", "unit"),
        restarts=_get(source, "restarts", int, "unit"),
        description=_text(source, "description", "unit"),
        load=_text(source, "load", "unit"),
    )


def updates(source: Object) -> Mapping[str, Offer]:
    """Reads the result of `updates`."""
    found = _object(source.get("packages"), "updates.packages")
    return {name: _offer(item) for name, item in found.items()}


def _offer(value: Json) -> Offer:
    source = _object(value, "offer")
    newer = source.get("available")
    if newer is not None and not isinstance(newer, str):
        raise Malformed("offer.available is no version")
    return Offer(_text(source, "installed", "offer"), newer)


def denials(source: Object) -> Denials:
    """Reads the result of `avc`."""
    cursor = source.get("cursor")
    kept = json.dumps(cursor, ensure_ascii=False)
    if len(kept) > _LONGEST_CURSOR or kept != kept.encode("utf-8", "replace").decode():
        raise Malformed("avc.cursor is not to be kept: too long, or no text")
    gap = source.get("gap")
    return Denials(
        log=_get(source, "log", bool, "avc"),
        now=_seconds(source.get("now"), "avc.now"),
        cursor=None if cursor is None else _object(cursor, "avc.cursor"),
        events=_list(source, "events", _denied, "avc"),
        gap=None if gap is None else _gap(gap),
        more=_get(source, "more", bool, "avc"),
    )


def _denied(value: Json) -> Denied:
    source = _object(value, "denied")
    count = _get(source, "count", int, "denied")
    if count < 1:
        raise Malformed(f"denied.count is {count}")
    first = _seconds(source.get("first"), "denied.first")
    last = _seconds(source.get("last"), "denied.last")
    return Denied(_list(source, "lines", _word, "denied"), count, first, max(first, last))


def _gap(value: Json) -> Gap:
    source = _object(value, "gap")
    since, until = source.get("from"), source.get("to")
    return Gap(
        None if since is None else _seconds(since, "gap.from"),
        None if until is None else _seconds(until, "gap.to"),
        cast("GapReason", _one_of(source, "reason", GapReason, "gap")),
    )


def _seconds(value: Json, where: str) -> float:
    """A time on this side of the year 5138, which every calendar here can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise Malformed(f"{where} is no time")
    return float(value)
