"""What a webhook asks for. It is only ever a reason to look again: no value in it decides what is applied."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers

from reconciler.http.signatures import Forge

_EVENT = {
    "github": "x-github-event",
    "gitlab": "x-gitlab-event",
    "gitea": "x-gitea-event",
    "forgejo": "x-forgejo-event",
}
_FORM = "application/x-www-form-urlencoded"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Ping:
    """The forge tries the address out."""


@dataclass(frozen=True)
class Push:
    """The fleet's branch may have moved; `commit` is where the sender says it is, or empty."""

    commit: str


@dataclass(frozen=True)
class Ignored:
    """Nothing to do; `reason` is for the sender."""

    reason: str


class Malformed(Exception):
    """The message is proven and yet cannot be read. The text may be shown to the sender."""


def asked(forge: Forge, headers: Headers, body: bytes, branch: str) -> Ping | Push | Ignored:
    """What a message asks of a fleet that follows `branch`. Malformed."""
    if forge == "generic":
        # whatever the content type: curl --data calls everything a form
        return _push(_object(body) if body.strip() else {}, branch)
    event = headers.get(_EVENT[forge], "")
    if not event:
        raise Malformed(f"there is no {_EVENT[forge]} header")
    if event == "ping":
        return Ping()
    payload = _payload(headers, body)
    if not _is_push(forge, event, payload):
        return Ignored("only pushes are looked at")
    return _push(payload, branch)


def _is_push(forge: Forge, event: str, payload: dict[str, Any]) -> bool:
    if forge == "gitlab":
        return event == "Push Hook" or (event == "System Hook" and payload.get("event_name") == "push")
    return event == "push"


def _push(payload: dict[str, Any], branch: str) -> Push | Ignored:
    ref = payload.get("ref")
    if ref is not None and ref not in (f"refs/heads/{branch}", branch):
        return Ignored(f"this fleet follows the branch {branch}")
    after = payload.get("after")
    known = isinstance(after, str) and _COMMIT.fullmatch(after) is not None and after.strip("0") != ""
    return Push(str(after) if known else "")


def _payload(headers: Headers, body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        # GitHub and Gitea may be set to send a form whose field `payload` is the JSON text
        try:
            body = parse_qs(body.decode("ascii"), max_num_fields=16)["payload"][0].encode()
        except (ValueError, KeyError):
            raise Malformed("the body is a form without a payload") from None
    return _object(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("the body is not a JSON object")
    return value
