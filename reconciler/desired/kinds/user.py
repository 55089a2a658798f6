"""User: a person, known by the e-mail address of their commits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from reconciler.desired.kinds.common import Kind, Manifest, Spec


class UserSpec(Spec):
    """A person; deployments name them as actor when they wrote the commit."""

    email: Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] = Field(
        description="E-mail address of the person's commits; unique in the fleet."
    )
    display_name: Annotated[str, StringConstraints(min_length=1, max_length=120)] | None = Field(
        default=None, description="Name to show; `metadata.name` when absent."
    )


class User(Manifest):
    """A person."""

    kind_name: ClassVar[Kind] = Kind.USER
    kind: Literal["User"]
    spec: UserSpec
