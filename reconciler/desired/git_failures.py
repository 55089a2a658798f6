"""What git's error text says of a remote: whether waiting may help, in words for people. Pure.

The texts are those of git 2.30 to 2.50, OpenSSH 8 to 10 and curl under LC_ALL=C.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.desired.problems import printable

_LONGEST = 300


@dataclass(frozen=True)
class Failure:
    """Why a remote did not serve. `retry`: waiting may help; otherwise somebody has to put something right."""

    reason: str
    retry: bool
    hint: str = ""


_KNOWN: tuple[tuple[str, bool, str], ...] = (
    (
        r"Host key verification failed|No \w+ host key is known|REMOTE HOST IDENTIFICATION HAS CHANGED",
        False,
        "put the server's host key into the settings' git.knownHosts, after comparing it with what the server's owner says",
    ),
    (
        r"Permission denied \(|Permission denied, please try again|Too many authentication failures|UNPROTECTED PRIVATE KEY"
        r"|Load key .*: |Identity file .* not accessible",
        False,
        "check git.sshKey of the settings (mode 0600, no passphrase) and that the server knows its public half",
    ),
    (
        r"could not read (Username|Password)|Authentication failed|terminal prompts disabled|returned error: 40[13]|"
        r"HTTP Basic: Access denied",
        False,
        "the server asks for credentials: use ssh with git.sshKey, or https://user:token@host/path",
    ),
    (
        r"returned error: (404|410)|[Rr]epository .*not found|does not appear to be a git repository|"
        r"not a git repository|No such file or directory|unable to update url base from redirection",
        False,
        "check the address of the remote; a redirect is not followed",
    ),
    (
        r"SSL certificate problem|server certificate verification failed|certificate (has expired|subject name)|"
        r"no alternative certificate subject name",
        False,
        "the server's certificate is not trusted on this machine",
    ),
    (r"transport '.*' not allowed", False, "the settings' git.protocols do not allow it"),
    (
        r"detected dubious ownership",
        False,
        "let the repository belong to the user that runs this, or name it by its real path",
    ),
    (
        r"fsck error|fsck failed|[Ee]rror in object|bad object|unresolved deltas|did not send all necessary objects|"
        r"pack is corrupted|pack has bad object|inflate returned|SHA1 mismatch|is corrupt",
        False,
        "the repository holds damaged or malformed objects: run `git fsck --strict` in it",
    ),
    (
        r"No space left on device|Disk quota exceeded|Read-only file system",
        False,
        "the mirror's folder cannot be written: make room",
    ),
    (
        r"Could not resolve host|Could not resolve hostname|Name or service not known|Connection refused|timed out|"
        r"No route to host|Network is unreachable|Connection reset|Connection closed|hung up unexpectedly|early EOF|"
        r"returned error: (5\d\d|429)|Failed to connect|transfer closed|Operation too slow|gnutls_handshake|SSL_connect",
        True,
        "",
    ),
)


def classify(error: str) -> Failure:
    """What the error text of an `ls-remote` or `fetch` means. What nobody knows may pass: it is tried again."""
    reason = said(error)
    for pattern, retry, hint in _KNOWN:
        if re.search(pattern, error):
            return Failure(reason, retry, hint)
    return Failure(reason, retry=True)


def said(error: str) -> str:
    """The telling lines of an error text on one line, safe on a terminal and not too long."""
    lines = [line.strip() for line in error.replace("\r", "\n").split("\n") if line.strip()]
    noise = ("and the repository exists.", "Please make sure you have the correct access rights", "hint:")
    telling = [line for line in lines if not line.startswith(noise)]
    loud = [line for line in telling if line.startswith(("fatal:", "error:"))]
    first = next(
        (line for line in telling if re.search(r"[Pp]ermission denied|[Hh]ost key|ssh: |remote: ", line)), ""
    )
    chosen = dict.fromkeys([*([first] if first else []), *(loud or telling)[:2]])
    return (
        printable("; ".join(re.sub(r"^(fatal|error): ", "", line) for line in chosen))[:_LONGEST]
        or "no word why"
    )
