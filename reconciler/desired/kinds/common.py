"""What every manifest has: apiVersion, kind, metadata and the fields that work on every kind."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from reconciler.desired.scalars import DURATION_PATTERN, duration, seconds

API_VERSION = "reconciler/v1"
MOVED_FROM = "reconciler/moved-from"
"""Annotation that names what the resource was called before."""


class Kind(StrEnum):
    """The word after `kind:`."""

    SERVER = "Server"
    SITE = "Site"
    DATABASE = "Database"
    SSH_KEY = "SSHKey"
    USER = "User"
    ROLLOUT = "Rollout"
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


@dataclass(frozen=True)
class Means:
    """Words for people about a type: what a value is called, its plural, and the rule that it keeps.

    pydantic carries it along as metadata; messages, `explain` and the documentation take their words from it.
    """

    noun: str
    rule: str = ""
    plural: str = ""

    @property
    def many(self) -> str:
        """The plural."""
        return self.plural or f"{self.noun}s"


_Item = TypeVar("_Item", bound=Hashable)


def _distinct(values: tuple[_Item, ...]) -> tuple[_Item, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise PydanticCustomError("listed_twice", "lists {value} twice", {"value": str(value)})
    return values


class _Distinct:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_distinct, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "uniqueItems": True}


Distinct = _Distinct()
"""Metadata of a tuple that holds no value twice."""

PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]*$"
"""Text of one line without control characters, so that it cannot act on a terminal, a log or a file it is put in."""

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$"

Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    Means(
        "name",
        "1 to 48 lower-case letters, digits and hyphens, with a letter or digit at both ends, such as shop-1",
    ),
]
"""A DNS label of at most 48 characters: it becomes part of unit names and paths on nodes."""

LabelKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"),
    Means("key", "1 to 63 letters, digits, dots, slashes, hyphens and underscores"),
]
LabelValue = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"),
    Means("word", "at most 63 letters, digits, dots, hyphens and underscores"),
]
AnnotationValue = Annotated[
    str,
    StringConstraints(max_length=1024, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$"),
    Means("text", "at most 1024 characters, without control characters", "texts"),
]

DomainName = Annotated[
    str,
    StringConstraints(
        max_length=253, pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
    ),
    Means(
        "domain name",
        "a lower-case host name with a dot, such as shop.example.test; international names as xn--…",
    ),
]
"""A lower-case host name with at least one dot; international names in their `xn--` form."""

Duration = Annotated[
    str,
    StringConstraints(min_length=2, pattern=DURATION_PATTERN),
    AfterValidator(lambda text: duration(seconds(text))),
    Means("duration", "hours, minutes and seconds, the largest first, such as 45s, 10m or 1h30m"),
]
"""A length of time as Go writes it. It is kept in its one spelling (`1h30m` for `90m`); `scalars.seconds` reads it."""


def within(low: str, high: str) -> AfterValidator:
    """Metadata of a Duration that must not be shorter than `low` or longer than `high`."""

    def check(text: str) -> str:
        if not seconds(low) <= seconds(text) <= seconds(high):
            raise ValueError(f"is {text}; it must be from {low} to {high}")
        return text

    return AfterValidator(check)


class Metadata(Model):
    """Who the resource is. The name is its identity: renaming a manifest's file changes nothing."""

    name: Name = Field(
        description="Identity of the resource within its kind; lower-case letters, digits and hyphens."
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Free words for selection by Defaults."
    )
    annotations: dict[LabelKey, AnnotationValue] = Field(
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
    """One YAML document. Its `spec` is a `Spec` in every kind but Defaults."""

    kind_name: ClassVar[Kind]
    api_version: Literal["reconciler/v1"] = Field(description="Always `reconciler/v1`.")
    kind: str = Field(description="The kind of the resource.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: Model = Field(description="What the resource should be.")

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def address(self) -> str:
        """`Kind/name`, as plans and messages write it."""
        return f"{self.kind}/{self.metadata.name}"
