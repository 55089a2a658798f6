"""Defaults: values for many resources, merged before validation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reconciler.desired.kinds.common import Kind, LabelKey, LabelValue, Manifest, Means, Model


class DefaultsSpec(Model):
    """Which resources get which values; a value in the resource's own manifest always wins.

    It is no `Spec`: there is nothing on a node to suspend, protect or delete."""

    applies_to: Literal["Server", "Site", "Database", "SSHKey", "User", "Rollout"] = Field(
        description="Kind that gets the values."
    )
    match_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels a resource must have; empty: all of the kind."
    )
    priority: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0,
        description="Of two Defaults that set one value, the higher priority wins; equal priorities are a problem.",
    )
    values: Annotated[dict[str, Any], Means("map of fields of that kind's spec")] = Field(
        description="Part of a `spec`; maps are merged key by key, lists replace."
    )


class Defaults(Manifest):
    """Values for many resources."""

    kind_name: ClassVar[Kind] = Kind.DEFAULTS
    kind: Literal["Defaults"] = Field(description="Always `Defaults`.")
    spec: DefaultsSpec = Field(description="Which resources get which values.")
