"""The form of the cases in tests/cases/manifests: a folder `input`, the problems it has and the fleet it gives.

`python -m tests.desired.cases` writes the expectations of every case anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from reconciler.desired.fleet import Entry, Loaded
from reconciler.desired.problems import format_problem
from reconciler.desired.tree import load

CASES = Path(__file__).parent.parent / "cases" / "manifests"


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def load_case(case: Path) -> Loaded:
    """What the input of a case gives."""
    return load(files_of(case / "input"))


def problems_text(loaded: Loaded) -> str:
    """One problem a line, with its code."""
    return "".join(f"[{p.code}] {format_problem(p)}\n" for p in loaded.problems)


def fleet_text(loaded: Loaded) -> str:
    """Which resources there are, which are broken, and for those with defaults what came from where."""
    fleet = loaded.fleet
    value = {
        "whole": fleet.whole,
        "broken": sorted(str(key) for key in fleet.broken),
        "resources": {str(key): _resource(fleet.entries[key]) for key in sorted(fleet.entries)},
    }
    return json.dumps(value, indent=2) + "\n"


def _resource(entry: Entry) -> object:
    if not entry.origin.defaulted:
        return str(entry.origin.source)
    return {
        "source": str(entry.origin.source),
        "spec": entry.manifest.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "defaulted": {
            ".".join(map(str, path)): str(at) for path, at in sorted(entry.origin.defaulted.items())
        },
    }


def main() -> int:
    """Writes problems.txt and fleet.json of every case."""
    for case in sorted(CASES.iterdir()):
        loaded = load_case(case)
        (case / "problems.txt").write_text(problems_text(loaded), encoding="utf-8")
        (case / "fleet.json").write_text(fleet_text(loaded), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
