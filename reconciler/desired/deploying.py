"""Rules of a site's source that a field's type cannot say. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.desired import remotes
from reconciler.desired.findings import Finding, Path
from reconciler.desired.kinds import Site
from reconciler.errors import SourceFault

_HERE: Path = ("spec", "source")


def check(site: Site) -> Iterator[Finding]:
    """What is wrong with where a site's application comes from."""
    source = site.spec.source
    if source is None:
        return
    if source.revision is not None:
        message = "spec.source.revision is what the daemon found, and nothing to write"
        hint = "remove it; write `commit:` to stay at a commit"
        yield Finding((*_HERE, "revision"), "recorded-field", message, hint, at_key=True)
    given = [name for name in ("branch", "tag", "commit") if getattr(source, name) is not None]
    if len(given) > 1:
        message = f"spec.source has {' and '.join(given)}: one of them says what is deployed"
        yield Finding((*_HERE, given[1]), "exactly-one", message, "remove the others", at_key=True)
    for name in ("branch", "tag"):
        if (value := getattr(source, name)) is not None:
            try:
                remotes.check_branch(value)
            except SourceFault as fault:
                yield Finding((*_HERE, name), "bad-value", f"spec.source.{name}: {fault.message}", fault.hint)
    yield from _repository(site)
    yield from _shared(site)


def _repository(site: Site) -> Iterator[Finding]:
    source = site.spec.source
    if source is None:
        return
    try:
        remote = remotes.parse(source.repository)
    except SourceFault as fault:
        message = f"spec.source.repository: {fault.message}"
        hint = "write ssh://user@host/path, user@host:path or https://host/path"
        yield Finding((*_HERE, "repository"), "bad-value", message, hint)
        return
    if remote.protocol == "file":
        message = (
            "spec.source.repository is a path of the daemon's own machine, where manifests have no business"
        )
        yield Finding((*_HERE, "repository"), "bad-value", message, "write its ssh or https address")
    if remote.header is not None:
        message = (
            "spec.source.repository holds credentials, which everybody who reads this repository has now"
        )
        hint = "withdraw them; use ssh and `key:`, the name of an SSHKey"
        yield Finding((*_HERE, "repository"), "secret-in-git", message, hint)
    if source.key is not None and remote.protocol != "ssh":
        message = f"spec.source.key means nothing to {remote.protocol}: it is for ssh"
        hint = "remove it, or write the repository's ssh address"
        yield Finding((*_HERE, "key"), "no-effect", message, hint, at_key=True)


def _shared(site: Site) -> Iterator[Finding]:
    source = site.spec.source
    for place, path in enumerate(source.shared or () if source else ()):
        where = (*_HERE, "shared", place)
        around = [other for other in (source.shared or () if source else ()) if path.startswith(f"{other}/")]
        if around:
            message = f"spec.source.shared: {path} lies in {around[0]}, which is shared as a whole"
            yield Finding(where, "listed-twice", message, "remove it")
        if path == ".git" or path.startswith(".git/"):
            message = "spec.source.shared: a release has no .git folder"
            yield Finding(where, "no-effect", message, "remove it")
        if path == ".env":
            message = "spec.source.shared: .env is the one that the daemon writes, in every release"
            yield Finding(where, "no-effect", message, "remove it; write variables to spec.env")
