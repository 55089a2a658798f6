"""Releases of a site: which there were, going back to one, and following the source again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reconciler.desired import archive
from reconciler.errors import UsageFault
from reconciler.store import Tx
from reconciler.store.queries import audit, deployments, site_sources, ssh_keys
from reconciler.store.queries.site_sources import Revision, SiteSource

_LOOKED_AT = 1000


@dataclass(frozen=True)
class Release:
    """A commit that a site was deployed with, and when last. `state`: `served`, `failed` or an empty text."""

    commit: str
    branch: str
    deployment: str
    at: datetime | None
    state: str


def source_of(tx: Tx, site: str) -> SiteSource:
    """What is known of a site's source. UsageFault for a site without one."""
    found = site_sources.get(tx, site)
    if found is None:
        hint = "a site that has spec.source appears after its first look: reconciler plan --refresh"
        raise UsageFault(f"Site/{site} is not deployed from a repository", hint=hint)
    return found


def releases(tx: Tx, site: str) -> list[Release]:
    """The commits that a site was deployed with, the newest deployment first, each once. UsageFault as `source_of`."""
    source_of(tx, site)
    wanted = deployments.Filter(kind="Site", name=site)
    found: dict[str, Release] = {}
    served = False
    for one in deployments.listed(tx, wanted, limit=_LOOKED_AT):
        commit = one.source_commit
        if commit is None or one.status not in ("success", "failed"):
            continue
        good = one.status == "success"
        state = "failed" if not good else "" if served else "served"
        served = served or good
        if commit not in found or (good and found[commit].state == "failed"):
            found[commit] = Release(commit, one.source_branch or "", one.id, one.finished_at, state)
    return list(found.values())


def roll_back(tx: Tx, state: Path, site: str, to: str | None, by: str) -> Release:
    """Have a site go back to the release before the one that is served, or to the commit that begins with `to`.

    It stays there until its source moves, or `follow`. UsageFault when there is no such release.
    """
    known = source_of(tx, site)
    good = [one for one in releases(tx, site) if one.state != "failed"]
    if to is None:
        candidates: Sequence[Release] = [one for one in good if one.state != "served"][:1]
        missing = f"Site/{site} has no release before the one that is served"
    else:
        candidates = [one for one in good if one.commit.startswith(to.lower())]
        missing = f"Site/{site} was never deployed with a commit {to[:40]!r}"
    if not candidates:
        raise UsageFault(missing, hint=f"list them: reconciler sites releases {site}")
    if len(candidates) > 1:
        raise UsageFault(f"more than one release begins with {to}", hint="give more of the commit")
    target = candidates[0]
    revision = _archived(state, target.commit)
    if known.tip is not None and known.tip.commit == target.commit:
        site_sources.hold(tx, site, None)
    else:
        site_sources.hold(tx, site, revision)
    audit.append(tx, actor=by, action="rollback", subject=f"Site/{site}", detail={"commit": target.commit})
    return target


def follow(tx: Tx, site: str, by: str) -> SiteSource:
    """Have a site follow its source again. UsageFault as `source_of`."""
    source_of(tx, site)
    site_sources.hold(tx, site, None)
    audit.append(tx, actor=by, action="deploy", subject=f"Site/{site}")
    return source_of(tx, site)


def deploy_key(tx: Tx, key: str) -> str:
    """The public half of an SSHKey, to be given to the host of a repository. UsageFault when none is known."""
    found = ssh_keys.get(tx, key)
    if found is None or not found.public_key:
        hint = "a pair is generated at the first apply of an SSHKey without spec.publicKey"
        raise UsageFault(f"no public half of SSHKey/{key} is known", hint=hint)
    return found.public_key


def _archived(state: Path, commit: str) -> Revision:
    """The archive that was made of a commit."""
    for note in sorted(archive.folder_in(state).glob(f"*-{commit}.json")):
        try:
            known = json.loads(note.read_text(encoding="utf-8"))
            return Revision(commit, str(known["sha256"]), int(known["size"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    raise UsageFault(
        f"the archive of commit {commit[:12]} is not kept any more",
        hint="write `commit:` into spec.source: it is made again from the repository",
    )
