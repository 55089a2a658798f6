"""A broken rule, as the checks of manifests find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One broken rule of a manifest, with the path that it is about. A warning does not break the resource."""

    path: Path
    code: str
    message: str
    hint: str = ""
    at_key: bool = False
    severity: Literal["error", "warning"] = "error"
