"""User: a person, known by the e-mail address of their commits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from reconciler.desired.kinds.common import PRINTABLE, Distinct, Kind, Manifest, Means, Spec
from reconciler.desired.kinds.keys import PublicKey, SigningKey

Email = Annotated[
    str,
    StringConstraints(max_length=254, pattern=r"^[^@\s<>\x00-\x1f\x7f-\x9f]+@[^@\s<>\x00-\x1f\x7f-\x9f]+$"),
    Means("e-mail address", "an address such as someone@example.test", "e-mail addresses"),
]
DisplayName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=120, pattern=PRINTABLE),
    Means("text", "one line of 1 to 120 characters", "texts"),
]


class UserSpec(Spec):
    """A person; deployments name them as actor when they wrote the commit."""

    email: Email = Field(description="E-mail address of the person's commits; unique in the fleet.")
    display_name: DisplayName | None = Field(
        default=None, description="Name to show; `metadata.name` when absent."
    )
    ssh_keys: Annotated[tuple[PublicKey, ...], Distinct] = Field(
        default=(),
        max_length=32,
        description="OpenSSH public keys that the person logs in with on servers that name them in `logins`.",
    )
    signing_keys: Annotated[tuple[SigningKey, ...], Distinct] = Field(
        default=(),
        max_length=32,
        description="Public keys that sign the person's commits: OpenSSH keys, also of security keys, or armored PGP keys.",
    )


class User(Manifest):
    """A person."""

    kind_name: ClassVar[Kind] = Kind.USER
    kind: Literal["User"] = Field(description="Always `User`.")
    spec: UserSpec = Field(description="The person.")
