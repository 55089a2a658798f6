"""Where the program keeps its state and finds the fleet, and how far it goes at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What a verb was told. `subpath` is the folder of the fleet repository that holds the manifests, `name` the fleet's name.

    `nodes_at_once` bounds the nodes that are worked on at one time; `apply_within` the seconds one node may take.
    """

    state: Path
    fleet: Path
    subpath: str = ""
    name: str = "main"
    nodes_at_once: int = 16
    apply_within: float = 1800.0
