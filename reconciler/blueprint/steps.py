"""Makers of steps, one a type: what docs/protocol.md says in fields, said in arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.blueprint.model import Body, Step
from reconciler.kit.canonical import Json

ROOT = "root"


def package(name: str, software: str = "") -> Step:
    """A package that must be installed; with `software` (`php-8.2`, `nginx`) it goes when that is no longer declared."""
    return Step("package", name, {"name": name, "software": software} if software else {"name": name})


def repository(name: str, url: str) -> Step:
    """A package that brings a repository; `url` is where it is when no enabled repository offers it."""
    return Step("repository", name, {"package": name, "url": url})


def module(name: str, stream: str, package: str) -> Step:
    """A module stream that is enabled before `package`, which comes from it, is installed."""
    return Step("module", name, {"name": name, "stream": stream, "package": package})


def hostname(name: str) -> Step:
    """The static host name."""
    return Step("hostname", "node", {"name": name})


def user(name: str, *, home: str, home_mode: str, home_group: str, shell: str, comment: str) -> Step:
    """A system user with a group of the same name."""
    return Step(
        "user",
        name,
        {
            "name": name,
            "home": home,
            "home_mode": home_mode,
            "home_group": home_group,
            "shell": shell,
            "groups": [],
            "comment": comment,
        },
    )


def quota(name: str, path: str, bytes_: int) -> Step:
    """How much the files of a user may take on the file system of `path`."""
    return Step("quota", name, {"user": name, "path": path, "bytes": bytes_})


def login(name: str, *, home: str, comment: str) -> Step:
    """A person's account: only one that has the comment is ever touched. Groups that somebody adds by hand stay."""
    params: dict[str, Json] = {"name": name, "home": home, "home_mode": "0700", "home_group": name}
    return Step("user", name, {**params, "shell": "/bin/bash", "comment": comment, "claim": True})


def directory(path: str, *, owner: str = ROOT, group: str = ROOT, mode: str = "0755") -> Step:
    """A folder; its parent must be there."""
    return Step("directory", path, {"path": path, "owner": owner, "group": group, "mode": mode})


def file(
    path: str,
    body: Body,
    *,
    owner: str = ROOT,
    group: str = ROOT,
    mode: str = "0644",
    once: bool = False,
    validate: Mapping[str, Json] | None = None,
) -> Step:
    """A file with this body. With `once` it is only ever created; `validate` is a Validator of docs/protocol.md."""
    params: dict[str, Json] = {
        "path": path,
        "owner": owner,
        "group": group,
        "mode": mode,
        "sha256": body.sha256,
        "size": body.size,
        "secret": body.secret,
        "once": once,
    }
    if validate is not None:
        params["validate"] = validate
    return Step("file", path, params, body)


def symlink(path: str, target: str, *, validate: Mapping[str, Json] | None = None) -> Step:
    """A symbolic link; `validate` as of a file."""
    params: dict[str, Json] = {"path": path, "target": target}
    if validate is not None:
        params["validate"] = validate
    return Step("symlink", path, params)


def no_symlink(path: str) -> Step:
    """A symbolic link of the distribution that must not be there."""
    return Step("symlink", path, {"path": path, "state": "absent"})


def web_server(unit: str, user: str, *, instead_of: str, other_user: str) -> Step:
    """The web server that has the ports, and the one that it takes over from."""
    params: dict[str, Json] = {"unit": unit, "user": user, "instead_of": instead_of, "other_user": other_user}
    return Step("web_server", "node", params)


def job(name: str, *, allowed: bool) -> Step:
    """A unit that something else starts. It is ended when it is not allowed to run, and when the step goes."""
    return Step("unit", name, {"name": name, "active": None if allowed else False})


def certificate(
    site: str, *, names: Sequence[str], group: str, unit: str, acme: Mapping[str, Json] | None = None
) -> Step:
    """A certificate for these names in the folder of `site` below /etc/panel/tls: self-signed, or with `acme` from a CA.

    `group` may read its key; `unit` is the web server's, which answers the CA. `acme` has the fields email, directory
    and trust of docs/protocol.md.
    """
    listed: list[Json] = list(names)
    common: dict[str, Json] = {"site": site, "names": listed, "group": group, "unit": unit}
    if acme is None:
        return Step("certificate", site, {**common, "issuer": "self"})
    return Step("certificate", site, {**common, "issuer": "acme", **acme})


def unit(
    name: str,
    *,
    running: bool = True,
    reload_on: Sequence[str] = (),
    restart_on: Sequence[str] = (),
) -> Step:
    """A unit that runs and is enabled, or is stopped and disabled. The keys may end in `*` for a prefix."""
    params: dict[str, Json] = {"name": name, "active": running, "enabled": running}
    if running and reload_on:  # systemd refuses to reload what does not run
        params["reload_on"] = list(reload_on)
    if running and restart_on:
        params["restart_on"] = list(restart_on)
    return Step("unit", name, params)
