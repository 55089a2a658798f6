"""SSH keys: making a pair, reading what a person gave, and the fingerprint people compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncssh

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret

IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The key files of `~/.ssh` that OpenSSH tries, best first."""

MIN_RSA_BITS = 2048
"""Enterprise Linux 9 and later refuse shorter RSA keys (crypto policy DEFAULT)."""


@dataclass(frozen=True)
class KeyPair:
    """A private key in OpenSSH format and its public line `ssh-ed25519 AAAA… comment`."""

    private: Secret
    public: str


def generate(comment: str = "reconciler") -> KeyPair:
    """A new ed25519 pair."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return KeyPair(Secret(key.export_private_key("openssh").decode("ascii")), _line(key))


def pair(private: Secret) -> KeyPair:
    """The private key with the public line that belongs to it. Raises SettingsFault for an unusable key."""
    return KeyPair(private, _line(parse_private(private)))


def parse_private(private: Secret, *, where: str = "the private key") -> asyncssh.SSHKey:
    """Reads a private key. Raises SettingsFault, which names `where` and never shows the key, when it is unusable."""
    text = private.reveal()
    if text.lstrip().startswith(("ssh-", "ecdsa-", "sk-")):
        raise SettingsFault(f"{where} is a public key", hint="give the file without .pub")
    if text.lstrip().startswith("PuTTY-User-Key-File"):
        raise SettingsFault(
            f"{where} is in PuTTY's format", hint="convert it: puttygen KEY -O private-openssh -o FILE"
        )
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        # asyncssh says "passphrase" for an encrypted key in either format, by either exception
        if "passphrase" in str(error).lower() or isinstance(error, asyncssh.KeyEncryptionError):
            raise SettingsFault(
                f"{where} is encrypted with a passphrase",
                hint="use a key without one, or take it off a copy: ssh-keygen -p -N '' -f COPY",
            ) from None
        raise SettingsFault(
            f"{where} cannot be read: not an SSH private key",
            hint="it begins with -----BEGIN OPENSSH PRIVATE KEY-----; make one with ssh-keygen -t ed25519",
        ) from None
    except ValueError:  # a key whose numbers do not fit each other
        raise SettingsFault(f"{where} is damaged", hint="make a new one with ssh-keygen -t ed25519") from None


def parse_public(line: str, *, where: str = "the public key") -> asyncssh.SSHKey:
    """Reads one public key line. Raises SettingsFault for anything else, also for a key that nodes would refuse."""
    text = line.strip()
    if "PRIVATE KEY" in text:
        raise SettingsFault(
            f"{where} is a private key", hint="give the line of the .pub file, and replace that key"
        )
    if "\n" in text or not text:
        raise SettingsFault(f"{where} must be one line: ssh-ed25519 AAAA…", hint="give one .pub line")
    try:
        key = asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError):
        raise SettingsFault(
            f"{where} cannot be read: {text[:30]!r}…", hint="it is one line: ssh-ed25519 AAAA… comment"
        ) from None
    if key.get_algorithm() == "ssh-dss":
        raise SettingsFault(f"{where} is a DSA key, which nodes refuse", hint="use ssh-keygen -t ed25519")
    bits = getattr(getattr(key, "pyca_key", None), "key_size", MIN_RSA_BITS)
    if key.get_algorithm() == "ssh-rsa" and bits < MIN_RSA_BITS:
        raise SettingsFault(
            f"{where} has only {bits} bits", hint=f"RSA needs {MIN_RSA_BITS}; use ssh-keygen -t ed25519"
        )
    return key


def canonical(line: str, *, comment: str = "") -> str:
    """The public line in one form, `type base64[ comment]`. Raises SettingsFault for an unusable key."""
    bare = " ".join(_line(parse_public(line)).split()[:2])
    return f"{bare} {comment}" if comment else bare


def fingerprint(line: str) -> str:
    """`SHA256:…` as ssh-keygen -l shows it. Raises SettingsFault for an unusable key."""
    return parse_public(line).get_fingerprint()


def read_identity(path: Path) -> Secret:
    """An operator's private key file. Raises SettingsFault when it is missing, unreadable, encrypted or no key."""
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise SettingsFault(
            f"{path} is not an SSH private key", hint="make one with ssh-keygen -t ed25519"
        ) from None
    except OSError as error:
        raise SettingsFault(
            f"cannot read the key file {path}: {error.strerror}", hint="name another file"
        ) from None
    private = Secret(text)
    parse_private(private, where=str(path))
    return private


def default_identities(home: Path) -> tuple[Path, ...]:
    """The key files below `home`/.ssh that OpenSSH would try and that exist, best first."""
    return tuple(path for name in IDENTITIES if (path := home / ".ssh" / name).is_file())


def _line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key("openssh").decode("utf-8").strip()
