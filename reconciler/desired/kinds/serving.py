"""How the web server answers for a site: what it hands on, where it redirects to, its headers, whom it believes."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import Distinct, Duration, Means, Model, within

_PATH = r"[A-Za-z0-9._~@+=:,%-]"
_TAIL = r"[A-Za-z0-9._~!()+,;=:@?&#%-]"


def _upstream(value: str) -> str:
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if any(part in ("", ".", "..") for part in path.removeprefix("/").split("/")):
            raise ValueError("must not have `.`, `..` or empty parts in its path")
        if path.startswith("/") and not path.startswith("/run/"):
            raise ValueError("names a socket that is neither below the site's home nor below /run")
        if len(path) > 80:
            raise ValueError("names a socket with more than 80 characters")
        return value
    address, _, port = value.removeprefix("http://").rpartition(":")
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        raise ValueError(
            "names a host: write its IP address (127.0.0.1 for this node), since nginx does not start while a name cannot be resolved"
        ) from None
    if (ip.version == 6) != address.startswith("["):
        raise ValueError("must have an IPv6 address in brackets, and no other")
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"has the port {port}, which is not from 1 to 65535")
    return f"http://{f'[{ip}]' if ip.version == 6 else ip}:{int(port)}"


Upstream = Annotated[
    str,
    StringConstraints(
        max_length=120,
        pattern=r"^(http://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,80}):[0-9]{1,5}|unix:[A-Za-z0-9._/-]{1,100})$",
    ),
    AfterValidator(_upstream),
    Means(
        "upstream",
        "http:// with an IP address and a port, such as http://127.0.0.1:3000, or unix: with a path below the site's home or /run",
    ),
]
Bytes = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]$"),
    Means("size", "a whole number and K, M or G, such as 128M"),
]


class Proxy(Model):
    """The application that requests are handed on to."""

    upstream: Upstream = Field(
        description="Where the application listens: `http://127.0.0.1:3000`, or `unix:storage/app.sock` for a socket below the site's home."
    )
    websockets: bool = Field(default=False, description="Hand on requests to change over to WebSocket.")
    timeout: Annotated[Duration, within("1s", "24h")] = Field(
        default="1m", description="How long the application may be silent within an answer or a WebSocket."
    )
    max_body_size: Bytes = Field(default="16M", description="Largest body of a request.")


def _star(value: str) -> str:
    if value.endswith("*") and not value.endswith("/*"):
        raise ValueError("has a star that does not follow a slash: /old/* means all that is below /old")
    return value


def _redirected(value: str) -> str:
    if "//" in value or any(part in (".", "..") for part in value.split("/")):
        raise ValueError("must not have `.`, `..` or empty parts")
    return _star(value)


RedirectFrom = Annotated[
    str,
    StringConstraints(max_length=500, pattern=rf"^/({_PATH}|/)*\*?$"),
    AfterValidator(_redirected),
    Means(
        "path",
        "a path such as /old, or /old/* for all that is below it, of letters, digits and . _ ~ @ + = : , % -",
    ),
]
RedirectTo = Annotated[
    str,
    StringConstraints(
        max_length=1000,
        pattern=rf"^(/(({_TAIL})({_TAIL}|/)*)?|https?://[a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?(:[0-9]{{1,5}})?(/({_TAIL}|/)*)?)\*?$",
    ),
    AfterValidator(_star),
    Means(
        "target",
        "a path that begins with one slash, or a URL with http:// or https://, without quotes, spaces, $ and backslashes",
    ),
]


class Redirect(Model):
    """Requests that are sent elsewhere."""

    from_: RedirectFrom = Field(
        alias="from", description="Path; with `/*` at its end, all paths below it. Queries do not matter."
    )
    to: RedirectTo = Field(
        description="Path of the same site, or URL; with `/*` at its end what stood for the star of `from` is appended."
    )
    status: Literal[301, 302, 307, 308] = Field(
        default=301,
        description="301 and 308 are for good, 302 and 307 for now; 307 and 308 keep the method.",
    )


HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$"),
    Means("header name", "at most 64 letters, digits and hyphens, beginning with a letter", "header names"),
]
HeaderValue = Annotated[
    str,
    # Visible ASCII and spaces. nginx has no way to write a $ that is none of its variables.
    StringConstraints(min_length=1, max_length=2000, pattern=r"^[!-#%-~]([ -#%-~]*[!-#%-~])?$"),
    Means("header value", "visible ASCII without $, of at most 2000 characters", "header values"),
]


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"is {value!r}, which is no network such as 10.0.0.0/8 or 192.0.2.7") from None
    if network.prefixlen == 0:
        raise ValueError("means everybody, so that every visitor could pretend to be another one")
    return str(network)


Network = Annotated[
    str,
    StringConstraints(max_length=43, pattern=r"^[0-9A-Fa-f:./]+$"),
    AfterValidator(_network),
    Means("network", "an address or network such as 10.0.0.0/8"),
]


class ClientAddress(Model):
    """How the address of a visitor is known behind a load balancer."""

    trusted_proxies: Annotated[tuple[Network, ...], Distinct] = Field(
        default=(),
        max_length=100,
        description="Networks of load balancers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )


CpuShare = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,4}%$"),
    Means("share of a processor", "a whole number and %, such as 50%, or 200% for two processors"),
]


class Limits(Model):
    """What all processes of the site together may use."""

    memory: Bytes | None = Field(
        default=None,
        description="Memory of all processes of the site together; beyond it the largest is ended.",
    )
    disk: Bytes | None = Field(
        default=None,
        description="Space of all files of the site's user on the file system of its home, which must keep quotas of users.",
    )
    cpu: CpuShare | None = Field(default=None, description="Time of processors: `100%` is one of them.")
    tasks: int | None = Field(
        default=None, ge=16, le=100000, description="Processes and threads at one time."
    )
