"""Pure: a resource, its platform and what is recorded of it become a section of typed steps for a node.

`sections` and `bundle` render, `removals` undoes, `describe` and `risks` put steps into words.
"""

from __future__ import annotations

from reconciler.blueprint.render import SecretSource, bundle, masked, sections
from reconciler.blueprint.undo import removals
from reconciler.blueprint.words import describe, risks

__all__ = ["SecretSource", "bundle", "describe", "masked", "removals", "risks", "sections"]
