"""Who may sign commits: keys of the fleet's Users, and those of a file or folder that the daemon's settings name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import User
from reconciler.desired.kinds.keys import is_armored
from reconciler.errors import SettingsFault

ALLOWED, REVOKED = "allowed_signers", "revoked_keys"
"""The files of a signers' folder; every `*.asc` in it is an armored PGP public key."""

_LARGEST = 4 * 1024 * 1024
_KEY = r"(?P<type>(?:ssh-|ecdsa-|sk-)[A-Za-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]+=*)(?: .*)?"
_LINE = re.compile(
    rf'(?P<principals>"[^"]+"|[^\s"]+)[ \t]+(?:(?P<options>(?:[a-z-]+(?:="[^"]*")?,?)+)[ \t]+)?{_KEY}'
)
_OPTION = re.compile(r'(?P<name>[a-z-]+)(?:="(?P<value>[^"]*)")?(?:,|$)')
_DATE = re.compile(r"(?P<day>[0-9]{8})(?P<time>[0-9]{4}(?:[0-9]{2})?)?(?P<utc>Z)?")


@dataclass(frozen=True)
class SshSigner:
    """One line of allowed_signers (ssh-keygen(1), ALLOWED SIGNERS). `blob` is the public key in base64.

    `authority`: the key signs certificates. From `after` on and until `before` it counts; None is no bound.
    """

    principals: tuple[str, ...]
    key_type: str
    blob: str
    line: str
    authority: bool = False
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True)
class PgpSigner:
    """An armored PGP public key. `principal` is the person's e-mail address; "" takes the key's user id."""

    principal: str
    armored: str


@dataclass(frozen=True)
class Signers:
    """Everybody who may sign. `revoked` are public ssh keys in base64 that count no more, whoever lists them."""

    ssh: tuple[SshSigner, ...] = ()
    pgp: tuple[PgpSigner, ...] = ()
    revoked: frozenset[str] = frozenset()

    def __or__(self, other: Signers) -> Signers:
        return Signers(
            tuple(dict.fromkeys((*self.ssh, *other.ssh))),
            tuple(dict.fromkeys((*self.pgp, *other.pgp))),
            self.revoked | other.revoked,
        )

    def with_users(self, users: Iterable[User]) -> Signers:
        """These and the signing keys of Users: those of the revision accepted before, never of the one to judge."""
        return self | of_users(users)

    def __bool__(self) -> bool:
        return bool(self.ssh or self.pgp)


def of_fleet(fleet: Fleet) -> Signers:
    """The signing keys of a fleet's valid Users. Take the fleet of the revision accepted before, never the one to judge."""
    return of_users(fleet.users())


def of_users(users: Iterable[User]) -> Signers:
    """The signing keys of Users; each counts for the User's e-mail address."""
    ssh: list[SshSigner] = []
    pgp: list[PgpSigner] = []
    for user in users:
        email = user.spec.email
        for key in user.spec.signing_keys:
            if is_armored(key):
                pgp.append(PgpSigner(email, key))
            else:
                key_type, blob = key.split(" ")[:2]
                # A pattern's characters in an address would let it stand for others.
                principal = re.sub(r'[*?!,"\\\s]', "_", email)
                line = f'"{principal}" namespaces="git" {key_type} {blob}'
                ssh.append(SshSigner((principal,), key_type, blob, line))
    return Signers(tuple(ssh), tuple(pgp))


def read(path: Path) -> Signers:
    """The signers of a file (allowed_signers, or one armored PGP public key) or of a folder of such files.

    A folder has `allowed_signers`, `revoked_keys` (OpenSSH public keys, one a line) and `*.asc`, each if it likes.
    SettingsFault with path and line for what cannot be read: a signer who is left out by mistake locks people out.
    """
    if path.is_dir():
        found = Signers()
        for inside in sorted(path.iterdir()):
            if inside.name == REVOKED:
                found |= Signers(revoked=frozenset(_revoked(inside)))
            elif inside.name == ALLOWED or inside.suffix == ".asc":
                found |= _file(inside)
        if not found:
            hint = f"put a file {ALLOWED} or armored PGP public keys (*.asc) into it"
            raise SettingsFault(f"{path}: the folder holds no signer", hint=hint)
        return found
    return _file(path)


def _file(path: Path) -> Signers:
    text = _text(path)
    if is_armored(text.lstrip()):
        return Signers(pgp=(PgpSigner("", text.strip() + "\n"),))
    return Signers(ssh=tuple(_signer(path, at, line) for at, line in _lines(text)))


def _revoked(path: Path) -> Iterable[str]:
    for at, line in _lines(_text(path)):
        match = re.fullmatch(_KEY, line)
        if match is None:
            raise SettingsFault(f"{path}:{at}: not an OpenSSH public key", hint="write one public key a line")
        yield match["blob"]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise SettingsFault(f"{path}: the signers cannot be read: {fault.strerror}") from fault
    if len(raw) > _LARGEST:
        raise SettingsFault(f"{path}: too large for a file of signers")
    return raw.decode("utf-8", "replace")


def _lines(text: str) -> Iterable[tuple[int, str]]:
    for at, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield at, line.strip()


def _signer(path: Path, at: int, line: str) -> SshSigner:
    fault = SettingsFault(
        f"{path}:{at}: not a line of allowed_signers",
        hint='such as: ada@example.test namespaces="git" ssh-ed25519 AAAA…',
    )
    match = _LINE.fullmatch(line)
    if match is None:
        raise fault
    options = {m["name"]: m["value"] for m in _OPTION.finditer(match["options"] or "") if m["name"]}
    if set(options) - {"cert-authority", "namespaces", "valid-after", "valid-before"}:
        raise fault
    try:
        base64.b64decode(match["blob"], validate=True)
        after, before = _instant(options.get("valid-after")), _instant(options.get("valid-before"))
    except (binascii.Error, ValueError):
        raise fault from None
    principals = tuple(match["principals"].strip('"').split(","))
    return SshSigner(
        principals, match["type"], match["blob"], line, "cert-authority" in options, after, before
    )


def _instant(text: str | None) -> datetime | None:
    """A time of allowed_signers: YYYYMMDD, with HHMM or HHMMSS after it; local unless it ends with Z."""
    if text is None:
        return None
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    moment = datetime.strptime(match["day"], "%Y%m%d")
    time = match["time"] or "0000"
    moment += timedelta(hours=int(time[:2]), minutes=int(time[2:4]), seconds=int(time[4:6] or "0"))
    return moment.replace(tzinfo=UTC) if match["utc"] else moment.astimezone()
