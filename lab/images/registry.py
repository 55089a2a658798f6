"""The images a node can be started from, by name."""

from __future__ import annotations

from ..host import ImageMissing
from ..vm.disk import DISK
from ..vm.ready import READY
from .bake import DEBIAN12_WEB, EL9_WEB
from .cache import Artefact, Image
from .debian import BASE as DEBIAN_BASE
from .debian import DEBIAN12, POOL
from .el9 import EL9
from .el_base import BASE as EL_BASE
from .el_repo import REPO

# topmost layer first, then the repository bound into the node
_DEBIAN: tuple[tuple[Artefact, ...], tuple[Artefact, str]] = ((DEBIAN12, DEBIAN_BASE), (POOL, "/srv/pool"))
_EL: tuple[tuple[Artefact, ...], tuple[Artefact, str]] = ((EL9, EL_BASE), (REPO, "/srv/el"))
_IMAGES = {
    "debian12": (_DEBIAN[0], _DEBIAN[1]),
    "el9": (_EL[0], _EL[1]),
    "debian12-web": ((DEBIAN12_WEB, *_DEBIAN[0]), _DEBIAN[1]),
    "el9-web": ((EL9_WEB, *_EL[0]), _EL[1]),
}
NAMES = tuple(_IMAGES)
MACHINE = "debian12-selinux"
"""The virtual machine: no image of a node, but built with them."""

__all__ = ["MACHINE", "NAMES", "ImageMissing", "artefacts", "find", "missing"]


def artefacts(*names: str) -> list[Artefact]:
    """What must be built for the named images, or for all."""
    wanted: list[Artefact] = []
    for name in names or (*NAMES, MACHINE):
        if name == MACHINE:
            wanted += [DISK, READY]
            continue
        layers, (repository, _) = _IMAGES[name]
        wanted += [a for a in (*reversed(layers), repository) if a not in wanted]
    return wanted


def missing(*names: str) -> list[str]:
    """Which of the named images (or of all) are not built yet."""
    return [name for name in names or (*NAMES, MACHINE) if not all(a.ready for a in artefacts(name))]


def find(name: str) -> Image:
    """A built image."""
    if name not in _IMAGES:
        raise KeyError(f"no image {name!r}; there are {', '.join(NAMES)}")
    if missing(name):
        raise ImageMissing(f"image {name} is not built: run `python3 -m lab images`")
    layers, (repository, target) = _IMAGES[name]
    return Image(
        name,
        tuple(a.tree for a in layers),
        ((repository.tree, target),),
        tuple(a.folder for a in (*layers, repository)),
    )
