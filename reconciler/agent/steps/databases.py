"""What both database engines have in common: remembered passwords, dumps, and words for an engine that is not up yet."""

import hashlib
from typing import Any, Callable, Dict

from .. import atomic, blobs, places
from ..faults import StepFault, cause
from ..vocabulary import Step
from .contract import Finding, Run, absent

PASSWORDS = places.STATE + "/passwords.json"


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
