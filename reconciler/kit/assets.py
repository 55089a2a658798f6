"""Where files that travel with the program are: templates and schemas, in a checkout or in an installed wheel."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent

_BUILT = (".pyc", ".mod", ".pp")


def folder(name: str) -> Path:
    """The folder `templates`, `schemas` or `selinux`. Raises FileNotFoundError when the installation is incomplete."""
    for candidate in (_PACKAGE / "_assets" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the installation lacks its folder {name!r}; install the package again")


def fingerprint(*folders: Path) -> str:
    """Twelve hexadecimal digits that stand for the files of these folders: they change when any of them does."""
    digest = hashlib.sha256()
    for top in folders:
        for path in sorted(p for p in top.rglob("*") if p.is_file() and p.suffix not in _BUILT):
            digest.update(f"{path.relative_to(top)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def package(name: str) -> Path:
    """The folder of one of our own packages."""
    return _PACKAGE / name
