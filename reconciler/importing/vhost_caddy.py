"""A virtual host as templates/caddy/vhost.caddy.j2 writes it, read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.importing.vhost import Vhost, proxy_spec, redirect
from reconciler.kit.canonical import Json

_TOKEN = re.compile(r'`([^`]*)`|"((?:[^"\\]|\\.)*)"|(\S+)')
_BELOW = r"[/\\]*([^?#]*)(\?[^#]*)?"
_ALONE = r"()(\?[^#]*)?(?:#.*)?$"
_MOST_DEPTH = 12


@dataclass
class _Line:
    words: list[str]
    inner: list[_Line] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.words[0] if self.words else ""


def read(text: str, user: str) -> Vhost | None:
    """What the file of the site whose system user is `user` says; None for a text that is none of ours."""
    top = _lines(text)
    if top is None:
        return None
    made = Vhost()
    bodies = [one for one in top if any(line.name == "route" for line in one.inner)]
    if not bodies:
        return None
    addresses = [one for one in top if one.name.startswith(("http://", "https://")) and one is not bodies[-1]]
    main = bodies[-1]
    made.names = _hosts(main, top)
    if len(bodies) > 1:
        made.other = next(iter(_hosts(bodies[0], top)), "")
    made.secured = any(line.name == "tls" for one in addresses for line in one.inner)
    if any(line.words == ["protocols", "tls1.3"] for line in _all(addresses)):
        made.oldest = "1.3"
    _route(next(line for line in main.inner if line.name == "route"), user, made)
    return made


def _lines(text: str) -> list[_Line] | None:
    top: list[_Line] = []
    open_blocks = [top]
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line == "}":
            open_blocks.pop()
            if not open_blocks:
                return None
            continue
        words = [a or b.replace('\\"', '"') or c for a, b, c in _TOKEN.findall(line)]
        opens = words[-1:] == ["{"]
        made = _Line(words[:-1] if opens else words)
        open_blocks[-1].append(made)
        if opens:
            open_blocks.append(made.inner)
            if len(open_blocks) > _MOST_DEPTH:
                return None
    return top if len(open_blocks) == 1 else None


def _hosts(body: _Line, top: list[_Line]) -> list[str]:
    """The hosts of a block: its own addresses, or of a snippet those of the blocks that import it."""
    listed = body.words
    if body.name.startswith("("):
        snippet = ["import", body.name.strip("()")]
        listed = next((one.words for one in top if any(i.words == snippet for i in one.inner)), [])
    return [word.rstrip(",").partition("://")[2] for word in listed]


def _all(lines: list[_Line]) -> Iterator[_Line]:
    for line in lines:
        yield line
        yield from _all(line.inner)


def _route(route: _Line, user: str, made: Vhost) -> None:
    body = ""
    for line in route.inner:
        match line.words:
            case ["@balancer", "remote_ip", *networks]:
                made.trusted = list(networks)
            case ["redir", "@plain", *_]:
                made.forced = True
            case ["header", "@secure", "Strict-Transport-Security", value]:
                made.hsts = value
            case ["header", name, _] if name.startswith("?"):
                made.usual.add(name[1:])
            case ["header"] if any(one.words == ["defer"] for one in line.inner):
                made.headers = {
                    one.words[0]: one.words[1]
                    for one in line.inner
                    if len(one.words) == 2 and not one.name.startswith("-")
                }
            case ["map", "{http.request.orig_uri}", *_]:
                made.redirects = [r for one in line.inner if (r := _redirect(one.words)) is not None]
            case ["request_body"]:
                body = next((one.words[1] for one in line.inner if one.name == "max_size"), "")
            case ["respond", _, "503"]:
                made.suspended = True
            case ["reverse_proxy", upstream] if not any("fastcgi" in one.words for one in line.inner):
                target = upstream.replace("unix/", "unix:", 1)
                seconds = [one.words[1] for one in _all(line.inner) if one.name == "read_timeout"]
                made.proxy = proxy_spec(
                    target if target != upstream else f"http://{upstream}",
                    user,
                    seconds=next(iter(seconds), ""),
                    body=body.removesuffix("iB"),
                    websockets=any(one.name == "@change" for one in route.inner),
                )
            case _:
                pass


def _redirect(words: list[str]) -> dict[str, Json] | None:
    if len(words) != 3 or words[2] == "0" or not words[0].startswith("~"):
        return None
    pattern, to = words[0][1:].removesuffix(_ALONE), words[1].removesuffix("${2}")
    if pattern.endswith(_BELOW):
        pattern = pattern.removesuffix(_BELOW) + "*"
    carries = to.endswith("${1}")
    return redirect(pattern, to.removesuffix("${1}") + ("*" if carries else ""), words[2])
