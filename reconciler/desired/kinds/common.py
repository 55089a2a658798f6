"""What every manifest has: apiVersion, kind, metadata and the fields that work on every kind."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

API_VERSION = "reconciler/v1"


class Kind(StrEnum):
    """The word after `kind:`."""

    SERVER = "Server"
    SITE = "Site"
    DATABASE = "Database"
    SSH_KEY = "SSHKey"
    USER = "User"
    DEFAULTS = "Defaults"


class Model(BaseModel):
    """Frozen, strict, camelCase outside and snake_case inside; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
    )


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")]
"""A DNS label of at most 48 characters: it becomes part of unit names and paths on nodes."""

LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]

DomainName = Annotated[
    str,
    StringConstraints(
        max_length=253, pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
    ),
]
"""A lower-case host name with at least one dot; international names in their `xn--` form."""


class Metadata(Model):
    """Who the resource is. The name is its identity: renaming a manifest's file changes nothing."""

    name: Name = Field(
        description="Identity of the resource within its kind; lower-case letters, digits and hyphens."
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Free words for selection by Defaults."
    )
    annotations: dict[LabelKey, Annotated[str, StringConstraints(max_length=1024)]] = Field(
        default_factory=dict,
        description="Notes; `reconciler/moved-from: OLD-NAME` renames a resource without destroying it.",
    )


class Spec(Model):
    """Fields that work on every kind."""

    suspend: bool = Field(
        default=False, description="Leave this resource as it is: no changes, no drift repair, no deletion."
    )
    protect: bool = Field(
        default=False, description="Refuse any plan that would delete or replace this resource."
    )
    deletion_policy: Literal["delete", "retain"] = Field(
        default="delete",
        description="What happens when the manifest is removed: `delete` removes it from the node, `retain` only forgets it.",
    )


class Manifest(Model):
    """One YAML document."""

    kind_name: ClassVar[Kind]
    api_version: Literal["reconciler/v1"] = Field(description="Always `reconciler/v1`.")
    kind: str
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def address(self) -> str:
        """`Kind/name`, as plans and messages write it."""
        return f"{self.kind}/{self.metadata.name}"
