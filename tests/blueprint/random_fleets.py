"""Random valid fleets of one server, for properties."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from reconciler.desired.fleet import Entry, Fleet, Origin
from reconciler.desired.kinds import MODELS, Kind
from reconciler.desired.problems import Source
from reconciler.platforms import NAMES, for_os

_WORD = string.ascii_lowercase + string.digits
_ENV_NAME = st.text(string.ascii_uppercase, min_size=1, max_size=6).filter(
    lambda n: not n.startswith(("DB", "APP"))
)
HOSTILE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("\"'\\$`{};%#= "),
    max_size=30,
)
"""Every value that a manifest's `env` may hold."""
_COMMAND = HOSTILE.map(lambda text: "true; " + text)
_JOB_NAMES = st.lists(st.sampled_from(["a", "a-b", "b"]), unique=True, max_size=3)
_SCHEDULE = st.sampled_from(["* * * * *", "@daily", "0 3 13 * fri"])
_JOBS = st.fixed_dictionaries(
    {
        "cron": _JOB_NAMES.flatmap(
            lambda names: st.tuples(
                *(
                    st.fixed_dictionaries({"name": st.just(n), "schedule": _SCHEDULE, "command": _COMMAND})
                    for n in names
                )
            ).map(list)
        ),
        "workers": _JOB_NAMES.flatmap(
            lambda names: st.tuples(
                *(
                    st.fixed_dictionaries(
                        {"name": st.just(n), "command": _COMMAND, "replicas": st.integers(1, 3)}
                    )
                    for n in names
                )
            ).map(list)
        ),
    }
)
_UPSTREAMS = st.sampled_from(
    ["http://127.0.0.1:3000", "http://[::1]:80", "unix:storage/a.sock", "unix:/run/a.sock"]
)
_PROXY = st.fixed_dictionaries(
    {"upstream": _UPSTREAMS, "websockets": st.booleans(), "timeout": st.sampled_from(["1s", "24h"])}
)
_APPS = st.sampled_from(["wordpress", "laravel", "generic", "static"]).map(
    lambda app: {"appType": app}
) | _PROXY.map(lambda proxy: {"appType": "proxy", "proxy": proxy})
"""Every kind of application, with what it needs."""
_ANSWERS = st.fixed_dictionaries(
    {
        "www": st.sampled_from(["keep", "add", "strip"]),
        "redirects": st.sampled_from(
            [[], [{"from": "/a/*", "to": "/b?c=%20#d"}, {"from": "/b.c", "to": "http://x.test"}]]
        ),
        "headers": st.dictionaries(
            st.sampled_from(["X-Frame-Options", "X-A"]), st.none() | st.just("a 'b' \"c\\"), max_size=2
        ),
        "limits": st.sampled_from([{}, {"memory": "512M"}, {"cpu": "50%", "tasks": 16}]),
        "clientAddress": st.sampled_from([{}, {"trustedProxies": ["10.0.0.0/8", "fd00::/8"]}]),
    }
)


def _entry(kind: Kind, name: str, spec: dict[str, Any]) -> Entry:
    document = {"apiVersion": "reconciler/v1", "kind": kind.value, "metadata": {"name": name}, "spec": spec}
    manifest = MODELS[kind].model_validate(document, strict=False)
    return Entry(manifest, Origin(Source("fleet.yaml")))  # type: ignore[arg-type]


def _names(prefix: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(_WORD, min_size=1, max_size=8), unique=True, max_size=4).map(
        lambda found: [prefix + name for name in found]
    )


@st.composite
def fleets(draw: st.DrawFn, os: str | None = None) -> Fleet:
    """A server with sites and databases in every combination that a manifest can hold."""
    system = os or draw(st.sampled_from(NAMES))
    versions = draw(
        st.lists(st.sampled_from(for_os(system).php_versions), unique=True, min_size=1, max_size=2)
    )
    server = {
        "address": "203.0.113.10",
        "os": system,
        "sshKey": "admin",
        "databaseEngines": ["mariadb", "postgresql"],
        "software": {"php": versions},
        **draw(st.sampled_from([{}, {"hostname": "web1.example.test"}])),
    }
    entries = [_entry(Kind.SERVER, "web1", server)]
    sites = draw(_names("s"))
    for name, domain in zip(sites, draw(st.permutations(sites)), strict=True):
        spec: dict[str, Any] = {
            "server": "web1",
            "domain": f"{domain}.test",
            "aliases": [f"www.{domain}.test"] if draw(st.booleans()) else [],
            **draw(_APPS),
            "phpVersion": draw(st.sampled_from(versions)),
            "state": draw(st.sampled_from(["active", "suspended"])),
            "env": draw(st.dictionaries(_ENV_NAME, HOSTILE, max_size=3)),
        }
        if draw(st.booleans()):
            spec |= draw(_JOBS)
        if draw(st.booleans()):
            spec |= draw(_ANSWERS)
        if spec["appType"] != "proxy" and draw(st.booleans()):
            spec["documentRoot"] = draw(st.sampled_from(["web", "a/b"]))
        entries.append(_entry(Kind.SITE, name, spec))
    for number, name in enumerate(draw(_names("d"))):
        login: dict[str, Any] = {
            "server": "web1",
            "engine": draw(st.sampled_from(["mariadb", "postgresql"])),
            "name": f"db{number}",
            "username": f"user{number}",
            "envPrefix": f"DB{number}",
            "privileges": draw(st.sampled_from([["ALL"], ["CREATE"]])),
        }
        if draw(st.booleans()) and sites:
            login["site"] = draw(st.sampled_from(sites))
        entries.append(_entry(Kind.DATABASE, name, login))
    return Fleet({entry.key: entry for entry in entries})
