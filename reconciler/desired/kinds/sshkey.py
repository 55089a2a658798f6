"""SSHKey: the key that the daemon logs in to servers with."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from reconciler.desired.kinds.common import Kind, Manifest, Spec
from reconciler.desired.kinds.keys import PublicKey


class SSHKeySpec(Spec):
    """A key pair. Only the public half may be in git."""

    public_key: PublicKey | None = Field(
        default=None,
        description="Public key in OpenSSH form; its private half is given with `reconciler servers add-key`. "
        "Absent: the daemon generates a pair and keeps the private half encrypted.",
    )


class SSHKey(Manifest):
    """A key pair that the daemon logs in with."""

    kind_name: ClassVar[Kind] = Kind.SSH_KEY
    kind: Literal["SSHKey"] = Field(description="Always `SSHKey`.")
    spec: SSHKeySpec = Field(default_factory=SSHKeySpec, description="The key pair.")
