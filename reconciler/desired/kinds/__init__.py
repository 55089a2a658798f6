"""The kinds of manifest, one file each, as frozen pydantic models without I/O."""

from __future__ import annotations

from reconciler.desired.kinds.common import API_VERSION, Kind, Manifest, Metadata, Spec
from reconciler.desired.kinds.database import Database, DatabaseSpec
from reconciler.desired.kinds.defaults import Defaults, DefaultsSpec
from reconciler.desired.kinds.rollout import Rollout, RolloutSpec
from reconciler.desired.kinds.server import Server, ServerSpec
from reconciler.desired.kinds.site import Site, SiteSpec
from reconciler.desired.kinds.sshkey import SSHKey, SSHKeySpec
from reconciler.desired.kinds.user import User, UserSpec

Resource = Server | Site | Database | SSHKey | User | Rollout
"""The kinds that are recorded and planned; `Defaults` is merged into them and gone."""

MODELS: dict[Kind, type[Manifest]] = {
    Kind.SERVER: Server,
    Kind.SITE: Site,
    Kind.DATABASE: Database,
    Kind.SSH_KEY: SSHKey,
    Kind.USER: User,
    Kind.ROLLOUT: Rollout,
    Kind.DEFAULTS: Defaults,
}

__all__ = [
    "API_VERSION",
    "MODELS",
    "Database",
    "DatabaseSpec",
    "Defaults",
    "DefaultsSpec",
    "Kind",
    "Manifest",
    "Metadata",
    "Resource",
    "Rollout",
    "RolloutSpec",
    "SSHKey",
    "SSHKeySpec",
    "Server",
    "ServerSpec",
    "Site",
    "SiteSpec",
    "Spec",
    "User",
    "UserSpec",
]
