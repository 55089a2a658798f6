"""Virtual hosts of nginx, from its configuration files. Only the directives named here leave the node, never whole files:
`fastcgi_param`, `proxy_set_header`, `auth_basic` and the like may hold secrets, so of them only the names are told."""

import os
import re
from typing import Any, Dict, Iterator, List, Tuple

from .. import places
from . import bounded, lexer
from .lexer import Directive

Host = Dict[str, Any]
ROOT_FILE = "/etc/nginx/nginx.conf"
MOST_FILES = 5000
MOST_HOSTS = 3000
MOST_BYTES = 32 * 1024 * 1024
_MOST_NAMES = 100
_MOST_DEPTH = 16
_CHALLENGE = "/.well-known/acme-challenge"
_DIRECTIVE = re.compile(r"[a-z][a-z0-9_]{0,60}\Z")
# What every virtual host has or what an import has no use for; other names are reported as not taken over.
_KNOWN = frozenset(
    [
        "listen", "server_name", "root", "index", "client_max_body_size", "ssl_certificate", "ssl_certificate_key",
        "fastcgi_pass", "proxy_pass", "return", "location", "include", "access_log", "error_log", "try_files",
        "fastcgi_index", "fastcgi_split_path_info", "charset", "server_tokens", "log_not_found", "ssl_protocols",
        "ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_session_cache", "ssl_session_timeout", "ssl_dhparam",
        "ssl_session_tickets", "http2", "default_type", "types", "proxy_http_version", "fastcgi_buffers",
        "fastcgi_buffer_size", "fastcgi_read_timeout", "disable_symlinks", "absolute_redirect",
    ]
)  # fmt: skip

_FIELDS = {
    "root": "root",
    "client_max_body_size": "body_limit",
    "ssl_certificate": "certificate",
    "ssl_certificate_key": "key",
    "proxy_read_timeout": "timeout",
}


class _Reader:
    """Follows includes: every file once, a bounded number of them, to a bounded depth."""

    def __init__(self, notes: List[str]) -> None:
        self._notes = notes
        self._bytes = 0
        self.files: List[str] = []
        self._seen: Dict[str, bool] = {}

    def load(self, path: str, depth: int) -> List[Tuple[str, Directive]]:
        """The directives of a file and of those that it includes, each with the file that it stands in."""
        try:
            real = os.path.realpath(places.real(path))
        except (OSError, ValueError):
            real = path
        # a link to a file that was read already, or to itself
        if real in self._seen or len(self.files) >= MOST_FILES or depth > _MOST_DEPTH:
            return []
        self._seen[real] = True
        text = bounded.read(path)
        if text is None:
            self._notes.append("{}: cannot be read as a text of at most 1 MiB".format(bounded.text(path)))
            return []
        self._bytes += len(text)
        if self._bytes > MOST_BYTES:
            self._notes.append("{}: not read, there is too much configuration".format(bounded.text(path)))
            return []
        self.files.append(path)
        try:
            directives = lexer.parse(text)
        except lexer.Broken as broken:
            self._notes.append(
                "{}: {}; nothing of this file is taken over".format(bounded.text(path), broken)
            )
            return []
        return list(self.expand(path, directives, depth))

    def expand(self, path: str, directives: List[Directive], depth: int) -> Iterator[Tuple[str, Directive]]:
        """The directives with includes in their place."""
        for directive in directives:
            if directive.name == "include" and directive.args and directive.block is None:
                pattern = directive.args[0]
                if not pattern.startswith("/"):
                    pattern = "/etc/nginx/" + pattern
                for found in bounded.match(pattern, MOST_FILES):
                    for inner in self.load(found, depth + 1):
                        yield inner
            else:
                yield path, directive


def find(notes: List[str]) -> Tuple[List[Host], List[str]]:
    """Server blocks in the order of nginx, and the files that were read. Notes say what could not be read."""
    if not bounded.exists(ROOT_FILE):
        return [], []
    reader = _Reader(notes)
    hosts: List[Host] = []
    upstreams: Dict[str, List[str]] = {}
    for path, directive in reader.load(ROOT_FILE, 0):
        if directive.name == "http" and directive.block is not None:
            for inner_path, inner in reader.expand(path, directive.block, 0):
                _take(inner_path, inner, hosts, upstreams, reader)
    if len(hosts) > MOST_HOSTS:
        notes.append("nginx has {} virtual hosts; the first {} are told".format(len(hosts), MOST_HOSTS))
    for host in hosts:
        host["php"] = [address for name in host["php"] for address in upstreams.get(name, [name])][:20]
        host["proxy"] = [_resolved(url, upstreams) for url in host["proxy"]]
    return hosts[:MOST_HOSTS], [bounded.text(name) for name in reader.files][:MOST_FILES]


def _resolved(url: str, upstreams: Dict[str, List[str]]) -> str:
    scheme, separator, rest = url.partition("://")
    name, slash, tail = rest.partition("/")
    if separator and len(upstreams.get(name, [])) == 1:
        return scheme + separator + upstreams[name][0] + slash + tail
    return url


def _take(
    path: str, directive: Directive, hosts: List[Host], upstreams: Dict[str, List[str]], reader: _Reader
) -> None:
    if directive.block is None:
        return
    if directive.name == "upstream" and directive.args:
        servers = [inner.args[0] for inner in directive.block if inner.name == "server" and inner.args]
        upstreams[directive.args[0]] = [bounded.text(server) for server in servers[:20]]
    elif directive.name == "server":
        hosts.append(_host(path, directive, reader))


def _host(path: str, server: Directive, reader: _Reader) -> Host:
    host = host_of(kind="nginx", file=bounded.text(path), line=server.line)
    others: Dict[str, bool] = {}
    stack = [(inner, True) for _, inner in reversed(list(reader.expand(path, server.block or [], 1)))]
    while stack:
        directive, outer = stack.pop()
        _note(host, directive, outer=outer, others=others)
        if directive.block is not None and directive.name in ("location", "if") and not _challenge(directive):
            stack += [(inner, False) for _, inner in reversed(list(reader.expand(path, directive.block, 2)))]
    host["others"] = sorted(others)[:50]
    host["names"] = host["names"][:_MOST_NAMES]
    return host


def _challenge(location: Directive) -> bool:
    """Whether a location answers a CA, which says nothing of the site."""
    return any(arg.startswith(_CHALLENGE) for arg in location.args)


def _note(host: Host, directive: Directive, *, outer: bool, others: Dict[str, bool]) -> None:
    name, args = directive.name, [bounded.text(arg) for arg in directive.args]
    first = args[0] if args else ""
    if name == "server_name" and outer:
        host["names"] += args
    elif name == "listen" and outer:
        host["listen"] = (host["listen"] + [" ".join(args)])[:20]
    elif name in _FIELDS:
        if outer or not host[_FIELDS[name]]:
            host[_FIELDS[name]] = first
    elif name == "fastcgi_pass" and len(host["php"]) < 20:
        host["php"].append(first)
    elif name == "proxy_pass" and len(host["proxy"]) < 20:
        host["proxy"].append(without_secrets(first))
    elif name == "return" and args and first in ("301", "302", "307", "308") and len(args) > 1:
        if outer or not host["redirect"]:
            host["redirect"] = [first, without_secrets(args[1])]
        host["rules"] += 0 if outer else 1
    elif name == "try_files":
        host["front"] = host["front"] or any(arg.startswith("/index.php") for arg in args)
    elif name not in _KNOWN and _DIRECTIVE.match(name):
        others[name] = True


def without_secrets(url: str) -> str:
    """A URL without user, password and query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.partition("?")[0]
    place, slash, tail = rest.partition("/")
    return scheme + separator + place.rpartition("@")[2] + slash + tail.partition("?")[0]


def host_of(**values: Any) -> Host:
    """A virtual host with every field, for other web servers."""
    empty: Host = {
        "kind": "", "file": "", "line": 1, "names": [], "listen": [], "root": "", "body_limit": "", "certificate": "",
        "key": "", "php": [], "proxy": [], "redirect": [], "front": False, "rules": 0, "others": [], "timeout": "",
    }  # fmt: skip
    empty.update(values)
    return empty
