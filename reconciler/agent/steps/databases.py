"""What both database engines have in common: what is ours, remembered passwords, dumps, words for an engine that is not up."""

import hashlib
import os
from typing import Any, Callable, Dict, FrozenSet, List, Set

from .. import atomic, blobs, bundle, places
from ..faults import StepFault, cause
from ..vocabulary import Step
from .contract import Change, Finding, Run, absent, change

PASSWORDS = places.STATE + "/passwords.json"
OURS = places.STATE + "/databases.json"
_OWNED = ("mariadb_database", "mariadb_user", "postgresql_database", "postgresql_role")


_known: Dict[str, Any] = {"files": None, "keys": frozenset()}


def _stamp(path: str) -> Any:
    try:
        found = os.stat(places.real(path))
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _ours() -> FrozenSet[str]:
    """Keys of the steps whose databases and users this agent made or took over.

    On a node from before this was written down they are those of the kept bundle. Each is read once as long as it stays.
    """
    written = _stamp(OURS)
    files = (written, None if written else _stamp(bundle.KEPT))
    if _known["files"] != files:
        _known["keys"] = frozenset(_read_ours())
        _known["files"] = files
    keys: FrozenSet[str] = _known["keys"]
    return keys


def _read_ours() -> Set[str]:
    try:
        value = atomic.load_json(OURS)
        kept = atomic.load_json(bundle.KEPT) if value is None else None
    except ValueError:
        return set()
    if isinstance(value, list):
        return set(value)
    sections = kept["sections"] if isinstance(kept, dict) else []
    steps = [step for section in sections for step in section["steps"]]
    return {step["key"] for step in steps if step["type"] in _OWNED and not absent(step)}


def is_ours(key: str) -> bool:
    """Whether a database or user is there because a step of this key said so, and not somebody else's of the same name."""
    return key in _ours()


def claim(step: Step, *, exists: bool) -> None:
    """Write down that the step's database or user is ours, before it is made. Raises StepFault when it is somebody else's."""
    ours = _ours()
    refused = exists and step["key"] not in ours and not step.get("adopt", False)
    # also of a refusal: afterwards the kept bundle names what was refused
    atomic.save_json(OURS, sorted(ours if refused else ours | {step["key"]}))
    if refused:
        engine, _, what = step["type"].partition("_")
        raise StepFault(
            "the {} {} exists on this node already and was not made by Reconciler; choose another name, or take it over"
            " with its data by `adopt: true`".format(what, step["name"])
        )


def disclaim(key: str) -> None:
    """It is gone, or somebody else's again."""
    ours = _ours()
    if key in ours:
        atomic.save_json(OURS, sorted(ours - {key}))


def foreign(step: Step) -> List[Change]:
    """What a check says of a database or user that is there, when it is not ours yet."""
    return [] if is_ours(step["key"]) else [change("adopted", before=False, after=True)]


def will_refuse(step: Step, *, exists: bool) -> bool:
    """Whether `claim` is going to refuse the step, so that nothing will be changed."""
    return exists and not step.get("adopt", False) and not is_ours(step["key"])


NOT_OURS = "it exists already and was not made by Reconciler"


def note(step: Step, changes: List[Change]) -> str:
    """The note to a difference: whether an apply will refuse it."""
    refused = any(one["field"] == "adopted" for one in changes) and not step.get("adopt", False)
    return NOT_OURS if refused else ""


def _fingerprint(stored: str) -> str:
    return hashlib.sha256(stored.encode("utf-8")).hexdigest()


def _remembered() -> Dict[str, Any]:
    try:
        value = atomic.load_json(PASSWORDS)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def password_is(account: str, password_sha256: str, stored: str) -> bool:
    """True when the server still holds the hash that was set from this password."""
    kept = _remembered().get(account)
    return bool(stored) and kept == {"password": password_sha256, "stored": _fingerprint(stored)}


def remember_password(account: str, password_sha256: str, stored: str) -> None:
    """Remember which password led to which stored hash, so that a check needs no password."""
    kept = _remembered()
    kept[account] = {"password": password_sha256, "stored": _fingerprint(stored)}
    atomic.save_json(PASSWORDS, kept)


def forget_password(account: str) -> None:
    """The account is gone."""
    kept = _remembered()
    if kept.pop(account, None) is not None:
        atomic.save_json(PASSWORDS, kept)


def password(sha256: str, run: Run) -> str:
    """The password from its blob; from now on masked in every text. Raises StepFault."""
    body = blobs.read_body(sha256)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise StepFault("the password sent does not have the announced sha256")
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 8 <= len(text) <= 256 or not text.isprintable():
        raise StepFault("a database password is 8 to 256 printable ASCII characters")
    run.scrubber.learn(text)
    return text


def unanswered(fault: StepFault, step: Step, body: str = "") -> Finding:
    """The finding of a check while the server does not answer: it may not be installed or started yet."""
    return Finding("delete" if absent(step) else "create", [], str(fault), body or None)


def dump_before_drop(engine: str, name: str, dump: Callable[[str, int], None], run: Run) -> None:
    """Write `/var/lib/panel/archive/<engine>-<name>-<deployment>.sql.gz`, synced. Raises StepFault."""
    try:
        atomic.save_stream(
            "{}/{}-{}-{}.sql.gz".format(places.ARCHIVE, engine, name, run.deployment),
            lambda fd: dump(name, fd),
        )
    except OSError as error:
        raise StepFault(
            "cannot write a dump of {} to {}: {}".format(name, places.ARCHIVE, cause(error))
        ) from None
