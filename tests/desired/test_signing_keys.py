"""Signing keys: the fingerprints that ssh-keygen and gpg give, and the forms that are taken."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind, User
from reconciler.desired.kinds.keys import SigningKey, is_armored, signing_fingerprint

from .cases import CASES, load_case, problems_text

KEY: TypeAdapter[str] = TypeAdapter(SigningKey)

# An RSA key as gpg exports it: a packet of the old form. `gpg --list-keys` names its fingerprint.
RSA = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsDHzQBCADX7goZkISglgV2826KlcvnkoQM7j589JudlOwhoFCTgvCBMuW6
X1vWGpROJexA4jMiZk1yKWYapEn0/Tr53VrpgXUP1z4lW1iP25ermwVfXfwz7fW6
9IQHM41gDEbBawc4XzlksEm3aNNfwC2xTHyt/imAj65rGSW0gk/T+8IIVPplGCW1
54ue3AqnPm/Z5K5TsTB3jSrnEjraLamJ1SUMq4+9obhK+1KuJBAVmjz56iWU2HQt
4xOwRDvP/mPr+MuwHT0pmwgOvs8+GYKMq0rp64ieasjB2JbWfHHUH3G2R4aGb4c+
qwaw3VsPhVaQ733Kz/Uy3qWxBw8oL2p+ScGZABEBAAG0G09sZCBmb3JtIDxvbGRA
ZXhhbXBsZS50ZXN0PokBTgQTAQoAOBYhBKF7rEQuh2JbaC76j26Rnzxp9wUgBQJr
Ax80AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEG6Rnzxp9wUgo2gH/2uM
h57816/PgIhp1XXnCEVG/+XqgGVPS1Hyys/MIyPbvN9LrTs9DC2dEEKmSWmioRpO
I1TmLKxs0Jx6vqh6AMADwSM63WhyQVZ04OPZ/aZn0mLnx1pa3S+ROHgr4KBRgTNk
52ofgu5eQdN8/Rc0ouCtFkZC1ZcJbxAaCtE+bjOxfQCABdgQ9IGy8Y/eDZ/49XIc
3oSErhZVBL3USitB18rxA8H5D0YYuem2dpOJ0xcbRV6xumcuy7IJcRiVmk0R4AM8
CAW7U//v6O66ltaa/Seq7wWEP4Hjdx+qWSCjczGi607H6jsNZwKYeujpRbSsSpd1
MlOLMTjMkPu9iQNSx0U=
=req+
-----END PGP PUBLIC KEY BLOCK-----
"""
RSA_FINGERPRINT = "A17BAC442E87625B682EFA8F6E919F3C69F70520"


def keys_of_case() -> tuple[str, ...]:
    """An ed25519 key, one of a token and a PGP key of ed25519, as a User of the cases has them."""
    user = load_case(CASES / "signing-keys").fleet.entries[Key(Kind.USER, "ann")].manifest
    assert isinstance(user, User)
    return user.spec.signing_keys


def test_fingerprints_are_those_of_gpg() -> None:
    *_, ed25519 = keys_of_case()
    assert is_armored(ed25519)
    assert signing_fingerprint(ed25519) == "820F21DE5BEB9FAD4D7A84AA2F3EC87978048118"
    assert signing_fingerprint(KEY.validate_python(RSA)) == RSA_FINGERPRINT


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    for key in keys_of_case()[:2]:
        (tmp_path / "key.pub").write_text(key + "\n")
        said = subprocess.run(
            ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert signing_fingerprint(key) in said.stdout.split()


def test_a_block_is_kept_without_what_stands_around_it() -> None:
    assert KEY.validate_python(RSA.replace("\n", "\r\n") + "\n\n") == RSA
    assert KEY.validate_python(RSA.rstrip()) == RSA


def test_headers_and_a_missing_checksum_change_nothing() -> None:
    begin, blank, *body, checksum, end = RSA.splitlines()
    assert blank == ""
    assert checksum.startswith("=")
    other = "\n".join([begin, "Version: some", "Comment: with = and words", "", *body, end])
    assert signing_fingerprint(KEY.validate_python(other)) == RSA_FINGERPRINT


def test_packets_of_the_new_form_are_read() -> None:
    body = base64.b64decode("".join(RSA.splitlines()[2:-2]))
    length = int.from_bytes(body[1:3], "big") if body[0] & 3 == 1 else body[1]
    head = 3 if body[0] & 3 == 1 else 2
    key = body[head : head + length]
    for size in (
        bytes([192 + ((length - 192) >> 8), (length - 192) & 0xFF]),
        b"\xff" + length.to_bytes(4, "big"),
    ):
        packet = base64.b64encode(b"\xc6" + size + key).decode()
        text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{packet}\n-----END PGP PUBLIC KEY BLOCK-----\n"
        assert signing_fingerprint(KEY.validate_python(text)) == RSA_FINGERPRINT


def test_every_way_of_cutting_a_block_short_is_refused_and_raises_nothing_else() -> None:
    raw = base64.b64decode("".join(RSA.splitlines()[2:-2]))
    for end in [*range(12), 100, 200]:
        packet = base64.b64encode(raw[:end]).decode()
        text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{packet}\n-----END PGP PUBLIC KEY BLOCK-----\n"
        with pytest.raises(ValidationError):
            KEY.validate_python(text)


def test_no_private_key_is_in_a_message() -> None:
    text = problems_text(load_case(CASES / "private-signing-key-in-git"))
    assert text.count("[private-key]") == 3
    assert "c2VjcmV0" not in text
