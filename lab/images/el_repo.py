"""The local RPM repositories: BaseOS, AppStream, EPEL and Remi by name, repackaged from Debian's binaries."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .apt import fetch_next_release, listed
from .cache import Artefact
from .debian import POOL
from .debs import Bundler, Debs
from .el_packages import all_packages
from .el_php import php_packages
from .rpmkit import build_repositories

PHP_PARTS = (
    *("fpm", "cli", "common", "mysql", "pgsql", "opcache", "mbstring", "xml", "gd", "bcmath", "zip", "curl"),
    *("readline", "intl", "igbinary", "redis"),
)


def _build_newer(out: Path, _inputs: Mapping[str, Path]) -> None:
    fetch_next_release(out, listed("newer-debs"))


def _as_is(files: Iterable[tuple[Path, str]]) -> list[tuple[Path, str]]:
    return list(files)


def _build_repo(out: Path, inputs: Mapping[str, Path]) -> None:
    work = out.parent / "work"
    pool = Debs(inputs["debian-pool"], work / "debs")
    newer = Debs(inputs["newer-debs"], work / "debs")
    old_php = pool.unpack(*(f"php8.2-{x}" for x in PHP_PARTS))
    new_php = newer.unpack(*(f"php8.4-{x}" for x in PHP_PARTS))
    libraries = newer.unpack_files("libraries", sorted(newer.folder.glob("*.deb")))
    bundler = Bundler(libraries, "/opt/remi/php84/root/usr/lib64/private", work / "private")
    packages = [
        *all_packages(pool, newer, work / "private"),
        *php_packages("82", pool.version("php8.2-fpm"), old_php, _as_is),
        *php_packages("84", newer.version("php8.4-fpm"), new_php, bundler.bundle),
    ]
    build_repositories(packages, work, out)
    shutil.rmtree(work)


NEWER = Artefact("newer-debs", _build_newer, ("el_repo.py", "apt.py", "packages/newer-debs.txt"))
REPO = Artefact(
    "el-repo",
    _build_repo,
    (
        "el_repo.py",
        "el_packages.py",
        "el_php.py",
        "debs.py",
        "rpmkit.py",
        "el_files",
        "packages/el-records.txt",
    ),
    (POOL, NEWER),
)
