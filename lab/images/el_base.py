"""The lower tree of the Enterprise Linux look-alike: Debian's programs, among them the real dnf and rpm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .apt import bootstrap, listed
from .cache import Artefact

SELINUX_STORES = ("etc/selinux", "var/lib/selinux", "usr/share/selinux")


def _build_base(out: Path, _inputs: Mapping[str, Path]) -> None:
    bootstrap(out, [*listed("el-base"), *listed("el-libraries")])
    for store in SELINUX_STORES:
        (out / store / "default").rename(out / store / "targeted")
    (out / "srv/el").mkdir()


BASE = Artefact(
    "el-base", _build_base, ("el_base.py", "apt.py", "packages/el-base.txt", "packages/el-libraries.txt")
)
