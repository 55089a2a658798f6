"""A virtual host as templates/nginx/vhost.conf.j2 writes it, read back; its words are read as nginx reads them."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.agent.inventory import lexer
from reconciler.agent.inventory.lexer import Directive
from reconciler.importing.vhost import Vhost, proxy_spec, redirect
from reconciler.kit.canonical import Json

_BELOW = r"[/\\]*([^?#]*)"
_ALONE = "(?![^?#])"
_CHALLENGE = r"(?!\.well-known/acme-challenge/)"


def read(text: str, user: str) -> Vhost | None:
    """What the file of the site whose system user is `user` says; None for a text that is none of ours."""
    try:
        top = lexer.parse(text)
    except lexer.Broken:
        return None
    made = Vhost()
    values = _variables(top, made)
    servers = [one for one in top if one.name == "server" and one.block is not None]
    if not servers:
        return None
    if len(servers) > 1:
        made.other = next((one.args[0] for one in _of(servers[0], "server_name")), "")
    _server(servers[-1], values, user, made)
    return made


def _of(block: Directive, name: str) -> Iterator[Directive]:
    return (one for one in block.block or [] if one.name == name and one.args)


def _variables(top: list[Directive], made: Vhost) -> set[str]:
    """Reads the maps before the servers; the variables that leave a header to the application."""
    usual = set()
    for one in top:
        inner = one.block or []
        if one.name == "geo":
            made.trusted = [d.name for d in inner if d.args == ["1"]]
        elif one.name == "map" and len(one.args) == 2:
            variable = one.args[1]
            if variable.startswith("$panel_plain_"):
                made.forced = True
            elif variable.startswith("$panel_hsts_"):
                made.hsts = next((d.args[0] for d in inner if d.name == "https" and d.args), "")
            elif one.args[0].startswith("$upstream_http_"):
                usual.add(variable)
    return usual


def _server(server: Directive, usual: set[str], user: str, made: Vhost) -> None:
    made.names = next((list(one.args) for one in _of(server, "server_name")), [])
    made.secured = any(True for _ in _of(server, "ssl_certificate"))
    if any(one.args == ["TLSv1.3"] for one in _of(server, "ssl_protocols")):
        made.oldest = "1.3"
    for one in _of(server, "add_header"):
        name, value = one.args[0], one.args[1] if len(one.args) > 1 else ""
        if value in usual:
            made.usual.add(name)
        elif not value.startswith("$"):  # those are of the template: no manifest can have one
            made.headers[name] = value
    for one in _of(server, "if"):
        if (
            one.args[:2] == ["($request_uri", "~"]
            and len(one.args) > 2
            and (found := _redirect(one)) is not None
        ):
            made.redirects.append(found)
    root = next((one for one in _of(server, "location") if one.args == ["/"]), None)
    if root is None:
        return
    if any(one.args[0] == "503" for one in _of(root, "return")):
        made.suspended = True
        made.headers.clear()  # those of the page
    for target in _of(root, "proxy_pass"):
        made.proxy = proxy_spec(
            target.args[0].replace("http://unix:", "unix:", 1),
            user,
            seconds=next((one.args[0] for one in _of(root, "proxy_read_timeout")), ""),
            body=next((one.args[0] for one in _of(server, "client_max_body_size")), ""),
            websockets=any(one.args[0] == "Upgrade" for one in _of(root, "proxy_set_header")),
        )


def _redirect(rule: Directive) -> dict[str, Json] | None:
    pattern = rule.args[2].removesuffix(_ALONE)
    to = next((one.args[1] for one in _of(rule, "set") if len(one.args) == 2), "")
    answer = next((one.args for one in _of(rule, "return") if len(one.args) == 2), None)
    if answer is None:
        return None
    if pattern.endswith(_BELOW):
        pattern = pattern.removesuffix(_BELOW).removesuffix(_CHALLENGE) + "*"
    return redirect(pattern, to + ("*" if "$1" in answer[1] else ""), answer[0])
