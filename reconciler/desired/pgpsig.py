"""Judging a PGP signature with gpg, in a keyring that is made for it and thrown away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from reconciler.desired import git_process
from reconciler.desired.git_process import Bounds, Ended
from reconciler.desired.judgement import Judgement
from reconciler.desired.signers import PgpSigner
from reconciler.errors import SourceFault

BEGIN = "-----BEGIN PGP SIGNATURE-----"
_SECONDS = 30.0
_VERDICTS = ("GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG")
"""Exactly one of them stands for each signature (GnuPG's doc/DETAILS)."""


class PgpJudge:
    """Judges signatures with the given keys and no others. `at` is the moment that counts; None is now.

    The keyring is a folder below `folder`. `close` ends whatever gpg may have started for it.
    SourceFault when gpg is missing.
    """

    def __init__(self, folder: Path, signers: tuple[PgpSigner, ...], at: datetime | None) -> None:
        self._home = folder / "pgp"
        self._home.mkdir(mode=0o700)
        self._signature = folder / "signature.asc"
        self._at = at
        self._known: dict[str, str] = {}
        for signer in signers:
            ended = self._gpg("--import", given=signer.armored.encode("utf-8"))
            for word, rest in _status(ended):
                if word == "IMPORT_OK" and len(rest) == 2:
                    self._known.setdefault(rest[1], signer.principal)

    def judge(self, payload: bytes, armored: str) -> Judgement:
        """How the signature of a payload stands."""
        self._signature.write_text(armored, encoding="utf-8")
        found = list(_status(self._gpg("--verify", str(self._signature), "-", given=payload)))
        verdicts = [(word, rest) for word, rest in found if word in _VERDICTS]
        if len(verdicts) != 1 or sum(word == "NEWSIG" for word, _ in found) > 1:
            # With two signatures, what one of them says could be taken for the other's word.
            return Judgement("malformed", detail="there is not exactly one PGP signature that can be read")
        word, rest = verdicts[0]
        valid = next((r for w, r in found if w == "VALIDSIG"), [])
        key = valid[9] if len(valid) > 9 else rest[0] if rest else ""
        signer = self._known.get(key, "") or (" ".join(rest[1:]) if word != "ERRSIG" else "")
        match word:
            case "BADSIG":
                return Judgement("altered", signer, key, "the signature does not fit what was signed")
            case "EXPSIG":
                return Judgement("expired", signer, key, "the signature itself has expired")
            case "EXPKEYSIG":
                return Judgement("expired", signer, key, "the key has expired")
            case "REVKEYSIG":
                return Judgement("revoked", signer, key, "the key is revoked")
            case "GOODSIG" if key in self._known:
                return Judgement("good", signer, key)
            case "ERRSIG" if not any(w == "NO_PUBKEY" for w, _ in found):
                return Judgement(
                    "malformed", "", key, "the signature cannot be checked: its algorithm is not accepted"
                )
            case _:
                return Judgement("unknown", "", key, "nobody who may sign has this key")

    def close(self) -> None:
        """Ends daemons of the keyring, should any have been started, before the folder goes."""
        if any(self._home.glob("S.*")) and shutil.which("gpgconf"):
            command = ["gpgconf", "--homedir", str(self._home), "--kill", "all"]
            git_process.run(command, git_process.environment(), bounds=Bounds(_SECONDS))

    def _gpg(self, *arguments: str, given: bytes) -> Ended:
        moment = (
            () if self._at is None else ("--faked-system-time", f"{self._at.astimezone(UTC):%Y%m%dT%H%M%S}!")
        )
        command = [
            *("gpg", "--homedir", str(self._home), "--batch", "--no-tty", "--quiet", "--no-options"),
            # No agent, no keyserver, no lookups: only what was given counts.
            *("--no-autostart", "--disable-dirmngr", "--no-auto-key-retrieve", "--no-auto-key-locate"),
            *("--trust-model", "always", "--weak-digest", "SHA1", "--status-fd", "1"),
            *moment,
            *arguments,
        ]
        try:
            ended = git_process.run(
                command, git_process.environment(), given=given, bounds=Bounds(_SECONDS, 1 << 20)
            )
        except SourceFault as fault:
            hint = "install gnupg, or sign commits with SSH keys"
            raise SourceFault(f"PGP signatures cannot be checked: {fault.message}", hint=hint) from fault
        if ended.stopped:
            raise SourceFault(f"gpg did not end within {_SECONDS:.0f} seconds")
        return ended


def _status(ended: Ended) -> Iterator[tuple[str, list[str]]]:
    for line in ended.output.decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) > 1 and words[0] == "[GNUPG:]":
            yield words[1], words[2:]
