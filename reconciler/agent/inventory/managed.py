"""What Reconciler itself put on this node, from the bundle that the agent kept: steps as digests, and unit files of ours."""

import re
from typing import Any, Dict, List

from .. import bundle, canonical
from . import bounded

_KEYS = ("MemoryMax", "CPUQuota", "TasksMax", "ExecStart", "TimeoutStartSec")
_UNIT = re.compile(r"/etc/systemd/system/(panel-(?:site|cron|worker|fpm)-[A-Za-z0-9_@.-]+)\Z")
_SCHEDULE = re.compile(r"# ([0-9*@][^\n]{0,200})\Z")


def find(notes: List[str]) -> Dict[str, Any]:
    """`server`: the name in the kept bundle (empty: none is kept); `sections` with steps; `units`: values of unit files.

    A step is its key, the digest of its canonical JSON without password, and for a secret file its size instead of its
    digest, so that nothing here can be guessed at.
    """
    kept = bundle.load(bundle.KEPT)
    if kept is None:
        if bounded.exists(bundle.KEPT):
            notes.append("the kept bundle is of another version of the agent")
        return {"server": "", "sections": [], "units": {}}
    sections = []
    units: Dict[str, Dict[str, str]] = {}
    for section in kept.sections:
        steps = []
        for step in section.steps:
            if step.get("state", "present") != "present":
                continue  # what was removed
            shown = {name: value for name, value in step.items() if name != "password"}
            if shown.get("secret"):
                shown.pop("sha256", None)
            steps.append(
                {
                    "key": step["key"],
                    "digest": canonical.digest(shown),
                    "size": step.get("size", step.get("bytes", 0)),
                }
            )
            match = _UNIT.match(str(step.get("path", "")))
            if match:
                units[match.group(1)] = _values(str(step["path"]))
        sections.append({"id": section.id, "needs": section.needs, "steps": steps})
    return {"server": kept.value["server"], "sections": sections, "units": units}


def _values(path: str) -> Dict[str, str]:
    text = bounded.read(path, 65536) or ""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        schedule = _SCHEDULE.match(line)
        if equals and name in _KEYS:
            found[name] = value[:4096]
        elif schedule and "schedule" not in found:
            found["schedule"] = schedule.group(1)
    return found
