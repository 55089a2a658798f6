"""Where a site's application comes from, and what makes a release of a commit."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import PRINTABLE, Distinct, Duration, Means, Model, Name, within
from reconciler.desired.kinds.health import HttpCheck
from reconciler.desired.kinds.jobs import Command


def _inside(value: str) -> str:
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError("must be a path below the release, such as storage/app, without `.` and `..`")
    return value


RepositoryAddress = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1000, pattern=PRINTABLE),
    Means(
        "address of a repository",
        "ssh://user@host/path, user@host:path or https://host/path",
        "addresses of repositories",
    ),
]
RefName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,199}$"),
    Means("name of a branch or tag", "such as main, release/2 or v1.4.0", "names of branches or tags"),
]
CommitId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$"),
    Means("commit id", "a whole commit id: 40 (or 64) hexadecimal digits"),
]
SharedPath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._@+=,~/-]{1,200}$"),
    AfterValidator(_inside),
    Means("relative path", "a path of at most 200 letters, digits and ._@+=,~/-"),
]

BRANCH = "main"
"""The branch of a source that names nothing."""


class Revision(Model):
    """The commit that a branch or tag stood at when it was looked at, and the archive that was made of it."""

    commit: CommitId = Field(description="The commit.")
    archive: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="sha256 of its archive, which nodes are given."
    )
    size: int = Field(ge=1, description="Bytes of the archive.")


class ApplicationSource(Model):
    """A git repository whose commits become releases of the site."""

    repository: RepositoryAddress = Field(
        description="The git repository: `ssh://user@host/path`, `user@host:path` or `https://host/path`."
    )
    branch: RefName | None = Field(
        default=None, description="Branch that is followed. Default: `main`, unless there is a tag or commit."
    )
    tag: RefName | None = Field(default=None, description="Tag that is followed, instead of a branch.")
    commit: CommitId | None = Field(
        default=None, description="Commit to stay at, by its whole id, instead of a branch."
    )
    key: Name | None = Field(
        default=None,
        description="SSHKey whose private half reads the repository (a deploy key). Only the daemon has it, never a node.",
    )
    shared: Annotated[tuple[SharedPath, ...], Distinct] | None = Field(
        default=None,
        max_length=100,
        description="Folders and files that all releases share. Default: `storage` for laravel, `wp-content/uploads` for wordpress, nothing otherwise; `.env` always.",
    )
    build: tuple[Command, ...] = Field(
        default=(),
        max_length=50,
        description="Commands that make a release of a commit, in its folder, before it is served; each is a line for `/bin/sh`.",
    )
    after: tuple[Command, ...] = Field(
        default=(),
        max_length=50,
        description="Commands once the release is switched to, in its folder. When one fails the release before is served again.",
    )
    keep: int = Field(default=5, ge=2, le=50, description="Releases that stay on the node.")
    health_check: HttpCheck | None = Field(
        default=None,
        description="Request that a release must answer as expected. Default: `/`, any status below 500.",
    )
    timeout: Annotated[Duration, within("10s", "2h")] = Field(
        default="15m", description="How long all commands of `build`, and all of `after`, may take."
    )
    revision: Revision | None = Field(
        default=None,
        description="The commit of this moment. The daemon fills it in; a manifest that has it is refused.",
    )

    @property
    def ref(self) -> str:
        """What is followed: a commit id, `refs/tags/…`, or the name of a branch."""
        if self.commit is not None:
            return self.commit
        return f"refs/tags/{self.tag}" if self.tag is not None else self.branch or BRANCH

    @property
    def followed(self) -> str:
        """The same for people and records: `main`, `tag v1`, `commit 0123456789ab`."""
        if self.commit is not None:
            return f"commit {self.commit[:12]}"
        return f"tag {self.tag}" if self.tag is not None else self.branch or BRANCH
