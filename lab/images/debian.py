"""The Debian nodes: a minimal Debian, a local repository beside it, and a layer that points apt at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..host import run
from .apt import APT_OPTIONS, apt_env, bootstrap, fill_pool, listed, overlay
from .cache import Artefact


def _build_base(out: Path, _inputs: Mapping[str, Path]) -> None:
    bootstrap(out, listed("debian-base"))
    (out / "srv/pool").mkdir()


def _build_pool(out: Path, inputs: Mapping[str, Path]) -> None:
    fill_pool(inputs["debian-base"], out, listed("debian-pool"))


def _build_debian12(out: Path, inputs: Mapping[str, Path]) -> None:
    """A thin layer: the local repository as the only source, its lists already read."""
    pool = inputs["debian-pool"]
    with overlay([inputs["debian-base"]], out, [(pool, "/srv/pool")]) as root:
        (root / "etc/apt/sources.list.d/lab.list").write_text("deb [trusted=yes] file:/srv/pool ./\n")
        run("chroot", root, "apt-get", *APT_OPTIONS, "update", env=apt_env())
        run("chroot", root, "apt-cache", "gencaches", env=apt_env())


RECIPE = ("debian.py", "apt.py")
BASE = Artefact("debian-base", _build_base, (*RECIPE, "packages/debian-base.txt"))
POOL = Artefact("debian-pool", _build_pool, (*RECIPE, "packages/debian-pool.txt"), (BASE,))
DEBIAN12 = Artefact("debian12", _build_debian12, RECIPE, (BASE, POOL))
