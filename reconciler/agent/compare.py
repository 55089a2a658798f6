"""What an apply would do: the differences between the node and a bundle."""

from typing import Any, Dict, List, Optional, Set, Tuple

from . import blobs, hashes, pending, walk
from .bundle import Bundle
from .faults import StepFault
from .observe import World
from .steps import HANDLERS
from .vocabulary import Step

Difference = Dict[str, Any]


def compare(
    bundle: Bundle, ids: Optional[List[str]], cache: hashes.Cache
) -> Tuple[List[Difference], List[str]]:
    """Differences of the sections, and the sha256 of the bodies that are needed and lacking. Raises Refusal."""
    chosen = bundle.chosen(ids)
    world = World((step for section in chosen for step in section.steps), bundle.package_manager, cache)
    world.prefetch()
    differences: List[Difference] = []
    wants: List[str] = []
    with walk.remembering():
        for section in chosen:
            for step in section.steps:
                _look(section.id, step, world, differences, wants)
    differences += _owed({section.id for section in chosen})
    cache.save()
    return differences, wants


def _look(section: str, step: Step, world: World, differences: List[Difference], wants: List[str]) -> None:
    try:
        finding = HANDLERS[step["type"]].check(step, world)
    except StepFault as fault:
        differences.append(_difference(section, step["key"], str(fault)))
        return
    if finding is None:
        return
    differences.append(finding.difference(section, step["key"]))
    if finding.body and not blobs.have(finding.body) and finding.body not in wants:
        wants.append(finding.body)


def _difference(section: str, key: str, note: str) -> Difference:
    return {"section": section, "key": key, "action": "update", "changes": [], "note": note}


def _owed(chosen: Set[str]) -> List[Difference]:
    """Reloads and restarts that an interrupted apply did not come to."""
    found = []
    for unit, debt in sorted(pending.owed().get("units", {}).items()):
        for section in debt["sections"]:
            if section in chosen:
                note = "a {} is still owed since an apply was interrupted".format(debt["action"])
                found.append(_difference(section, "unit:" + unit, note))
                break
    return found
