"""Where a fleet repository may be fetched from: addresses by an allow-list, and how ssh is called for them. Pure.

A remote's address is the one text that reaches git's transport code, where `ext::`, `fd::` and a leading dash run
programs. Only three forms pass: ssh (also `user@host:path`), https, and a local path.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from reconciler.errors import SourceFault
from reconciler.kit.secret import Secret

Protocol = Literal["ssh", "https", "file"]
PROTOCOLS: tuple[Protocol, ...] = ("ssh", "https", "file")

_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PATH = r"[^\x00-\x20\x7f-\x9f?#\\]+"
_SSH = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/(?!-){_PATH}")
_SCP = re.compile(rf"(?:{_USER}@){_HOST}:(?!-|//){_PATH}")
_HTTPS = re.compile(
    rf"https://(?:(?P<credentials>[^@/\x00-\x20\x7f-\x9f]*)@)?(?P<rest>{_HOST}(?::[0-9]{{1,5}})?/{_PATH})"
)
_FILE = re.compile(r"(?:file://)?(?P<path>/[^\x00-\x1f\x7f-\x9f]+)")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")

# git-check-ref-format(1), rules 1 to 10, and no leading dash (rule of `git branch`).
_BAD_BRANCH = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(?:^|/)\.|\.lock(?:/|$)|^@$|^-|^HEAD$"
)


@dataclass(frozen=True)
class Remote:
    """One remote. `address` is what git gets, without credentials; `name` is for people and logs.

    `header` is the HTTP header that the credentials of an https address become.
    """

    protocol: Protocol
    address: str
    name: str
    header: Secret | None = None

    @property
    def digest(self) -> str:
        """A short name for refs."""
        return digest(self.address)


def parse(address: str, allow: Collection[str] = PROTOCOLS) -> Remote:
    """The remote of an address. SourceFault for one that is not of an accepted form or whose protocol is not allowed."""
    remote = _read(address)
    if remote is None:
        hint = "write ssh://user@host/path, user@host:path, https://host/path, or the absolute path of a local repository"
        raise SourceFault(f"{shown(address)!r} is no accepted address of a repository", hint=hint)
    if remote.protocol not in allow:
        raise SourceFault(
            f"{remote.name}: the protocol {remote.protocol} is not allowed here",
            hint=f"allowed: {', '.join(sorted(allow)) or 'none'}; the settings' git.protocols say so",
        )
    return remote


def _read(address: str) -> Remote | None:
    if len(address) > 2000:
        return None
    if _SSH.fullmatch(address) or ("://" not in address and "::" not in address and _SCP.fullmatch(address)):
        return Remote("ssh", address, address)
    if match := _HTTPS.fullmatch(address):
        clean = f"https://{match['rest']}"
        if not match["credentials"]:
            return Remote("https", clean, clean)
        user, _, password = match["credentials"].partition(":")
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        return Remote(
            "https", clean, clean, Secret(f"Authorization: Basic {base64.b64encode(pair).decode('ascii')}")
        )
    if match := _FILE.fullmatch(address):
        return Remote("file", match["path"], match["path"])
    return None


def digest(text: str) -> str:
    """A text as a part of a ref's name, which no other ref's name begins with."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def shown(address: str) -> str:
    """An address as people may see it: without credentials, not too long."""
    return _CREDENTIALS.sub("", address)[:200]


def check_branch(branch: str) -> None:
    """SourceFault for a text that cannot be a branch's name."""
    if not branch or len(branch) > 200 or _BAD_BRANCH.search(branch):
        raise SourceFault(f"{branch[:60]!r} is no name of a branch", hint="such as main")


def ssh_command(key: Path | None, known_hosts: Path | None, connect_seconds: float) -> str:
    """GIT_SSH_COMMAND: no question, no agent, no forwarding, one key, pinned host keys, a peer that falls silent noticed.

    git hands it to a shell, hence the quoting. Without `known_hosts` no host is known, and ssh refuses every one.
    """
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _ssh_path(known_hosts) if known_hosts else "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentityAgent": "none",
        "IdentitiesOnly": "yes",
        "IdentityFile": _ssh_path(key) if key else "none",
        "ConnectTimeout": str(max(1, round(connect_seconds))),
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ControlMaster": "no",
        "ControlPath": "none",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", "/dev/null"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join(words)


def _ssh_path(path: Path) -> str:
    """A path as ssh_config(5) reads it: quoted for blanks, per cent signs doubled. SourceFault for one it cannot hold."""
    text = str(path.absolute())
    if any(c in text for c in '"\n\r\\') or "${" in text:
        raise SourceFault(f"{text!r}: ssh cannot be told of a file of this name", hint="rename it")
    return f'"{text.replace("%", "%%")}"'
