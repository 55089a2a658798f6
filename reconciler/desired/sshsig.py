"""Judging an SSH signature with ssh-keygen: the one key it was made with, and how that key stands."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reconciler.desired import git_process
from reconciler.desired.git_process import Bounds, Ended
from reconciler.desired.judgement import Judgement
from reconciler.desired.signers import Signers, SshSigner
from reconciler.errors import SourceFault

BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_NAMESPACE = b"git"
_SECONDS = 20.0


@dataclass(frozen=True)
class _Signature:
    """The public parts of a signature (OpenSSH's PROTOCOL.sshsig)."""

    key: bytes
    namespace: bytes

    @property
    def blob(self) -> str:
        return base64.b64encode(self.key).decode("ascii")

    @property
    def fingerprint(self) -> str:
        digest = base64.b64encode(hashlib.sha256(self.key).digest()).decode("ascii").rstrip("=")
        return f"SHA256:{digest}"

    @property
    def certificate(self) -> bool:
        return b"-cert-v01@openssh.com" in self.key[:80]


class SshJudge:
    """Judges signatures in a scratch folder. `at` is the moment that counts; None is now."""

    def __init__(self, folder: Path, signers: Signers, at: datetime | None) -> None:
        self._signers = signers
        self._at = at
        self._now = at or datetime.now().astimezone()
        self._signature, self._allowed = folder / "signature", folder / "allowed_signers"
        self._revoked = folder / "revoked_keys"
        self._allowed.write_text("".join(f"{signer.line}\n" for signer in signers.ssh), encoding="utf-8")
        self._revoked.write_text(
            "".join(f"{_typed(blob)}\n" for blob in sorted(signers.revoked)), encoding="utf-8"
        )

    def judge(self, payload: bytes, armored: str, people: Sequence[str]) -> Judgement:
        """How the signature of a payload stands. `people` are addresses to try for a signer that is a pattern."""
        signature = _read(armored)
        if signature is None:
            return Judgement("malformed", detail="the SSH signature cannot be read")
        key = signature.fingerprint
        if signature.namespace != _NAMESPACE:
            purpose = signature.namespace[:40].decode("utf-8", "replace")
            return Judgement(
                "malformed", key=key, detail=f"the signature was made for {purpose!r}, not for git"
            )
        self._signature.write_text(armored, encoding="utf-8")
        if self._ssh_keygen(payload, "check-novalidate").status != 0:
            return Judgement("altered", key=key, detail="the signature does not fit what was signed")
        known = [s for s in self._signers.ssh if s.blob == signature.blob and not s.authority]
        name = known[0].principals[0] if known else ""
        if signature.blob in self._signers.revoked:
            return Judgement("revoked", name, key, "the key is revoked")
        lines = [s for s in self._signers.ssh if s.authority] if signature.certificate else known
        for principal in _principals(lines, people):
            if self._ssh_keygen(payload, "verify", principal).status == 0:
                return Judgement("good", principal, key)
        return self._refusal(lines, name, key, certificate=signature.certificate)

    def _refusal(self, lines: Sequence[SshSigner], name: str, key: str, *, certificate: bool) -> Judgement:
        for signer in lines:
            if signer.before is not None and signer.before <= self._now and not certificate:
                return Judgement(
                    "expired", name, key, f"the key counted until {signer.before:%Y-%m-%d %H:%M}"
                )
            if signer.after is not None and signer.after > self._now and not certificate:
                return Judgement(
                    "expired", name, key, f"the key counts only from {signer.after:%Y-%m-%d %H:%M}"
                )
        if not lines:
            return Judgement("unknown", key=key, detail="nobody who may sign has this key")
        why = (
            "the certificate is not accepted"
            if certificate
            else "the key may not sign commits (its namespaces)"
        )
        return Judgement("unknown", name, key, why)

    def _ssh_keygen(self, payload: bytes, verb: str, principal: str = "") -> Ended:
        command = ["ssh-keygen", "-Y", verb, "-n", "git", "-s", str(self._signature)]
        if verb == "verify":
            command += ["-f", str(self._allowed), "-I", principal]
            if self._signers.revoked:
                command += ["-r", str(self._revoked)]
            if self._at is not None:
                command += ["-O", f"verify-time={self._at.astimezone():%Y%m%d%H%M%S}"]
        zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
        ended = git_process.run(
            command, git_process.environment(zone), given=payload, bounds=Bounds(_SECONDS, 1 << 20)
        )
        if re.search(
            r"(unknown|illegal|invalid) option|Unsupported operation|^usage:", ended.error, re.MULTILINE
        ):
            raise SourceFault(
                "this machine's ssh-keygen cannot check signatures", hint="OpenSSH 8.7 or newer is needed"
            )
        if ended.stopped:
            raise SourceFault(f"ssh-keygen did not end within {_SECONDS:.0f} seconds")
        return ended


def _principals(lines: Sequence[SshSigner], people: Sequence[str]) -> tuple[str, ...]:
    """Names to try, the commit's own people first where a line has a pattern; a name must not look like an option."""
    patterns = any(c in p for signer in lines for p in signer.principals for c in "*?")
    listed = [p for signer in lines for p in signer.principals if not p.startswith("!")]
    # A certificate names its own principals, which are those of people.
    own = [p for p in people if patterns or any(signer.authority for signer in lines)]
    return tuple(dict.fromkeys(p for p in (*own, *listed) if p and not p.startswith("-") and "\0" not in p))[
        :20
    ]


def _typed(blob: str) -> str:
    """A public key as ssh writes it: its type stands at the beginning of the blob (RFC 4253, 6.6)."""
    raw = base64.b64decode(blob)
    length = int.from_bytes(raw[:4], "big")
    return f"{raw[4 : 4 + length].decode('ascii', 'replace')} {blob}"


def _read(armored: str) -> _Signature | None:
    lines = [line.strip() for line in armored.strip().splitlines()]
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != _END:
        return None
    try:
        raw = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        return None
    if raw[:6] != b"SSHSIG" or raw[6:10] != b"\0\0\0\1":
        return None
    fields: list[bytes] = []
    at = 10
    for _ in range(2):
        length = int.from_bytes(raw[at : at + 4], "big")
        if at + 4 + length > len(raw):
            return None
        fields.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return _Signature(*fields)
