"""The cache of images: each artefact lies in a folder named by the hash of its recipe and of what it is made from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..host import mounts, run

HERE = Path(__file__).parent
NEW = ".new-"


@dataclass(frozen=True)
class Image:
    """What a node is started from: overlay layers, topmost first, and folders bound read-only into it."""

    name: str
    layers: tuple[Path, ...]
    binds: tuple[tuple[Path, str], ...] = ()
    artefacts: tuple[Path, ...] = ()
    """Cache folders that must stay while a node runs on them."""


@dataclass(frozen=True)
class Artefact:
    """Something to build once: `build(out, inputs)` fills `out`, given the folders of what it is made from."""

    name: str
    build: Callable[[Path, Mapping[str, Path]], None]
    recipe: tuple[str, ...]
    """Files or folders of this package whose content decides about the result."""
    inputs: tuple[Artefact, ...] = ()
    circumstances: Callable[[], str] = str
    """What else decides about the result, such as the version of a program."""

    def key(self) -> str:
        """Changes when the recipe or anything it is made from changes."""
        digest = hashlib.sha256(self.name.encode())
        for entry in self.recipe:
            for path in _files(HERE / entry):
                digest.update(f"\0{path.relative_to(HERE)}\0{path.stat().st_mode & 0o111:o}\0".encode())
                digest.update(path.read_bytes())
        for made_from in self.inputs:
            digest.update(made_from.key().encode())
        digest.update(self.circumstances().encode())
        return digest.hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where this artefact lies in the cache, built or not."""
        return cache_dir() / self.name / self.key()

    @property
    def tree(self) -> Path:
        """The built files."""
        return self.folder / "tree"

    @property
    def ready(self) -> bool:
        """Whether it is built."""
        return self.tree.is_dir()

    def closure(self) -> list[Artefact]:
        """This artefact and all it is made from, in the order of building."""
        ordered: list[Artefact] = []
        for made_from in self.inputs:
            ordered += [a for a in made_from.closure() if a not in ordered]
        return [*ordered, self]


def _files(entry: Path) -> list[Path]:
    if entry.is_dir():
        return sorted(p for p in entry.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return [entry]


def cache_dir() -> Path:
    """Where images are kept: outside the repository, they are far too big for it."""
    return Path(os.environ.get("RECONCILER_LAB_CACHE", "/var/cache/reconciler-lab"))


def build_all(artefacts: list[Artefact], say: Callable[[str], None] = print) -> None:
    """Builds what is missing, one step after the other, saying a line a step."""
    steps: list[Artefact] = []
    for artefact in artefacts:
        steps += [a for a in artefact.closure() if a not in steps]
    cache_dir().mkdir(parents=True, exist_ok=True)
    with _builder_lock(say):
        begun = time.monotonic()
        for number, step in enumerate(steps, 1):
            label = f"[{number}/{len(steps)}] {step.name:<16}"
            if step.ready:
                say(f"{label} {step.key()} is there")
                continue
            started = time.monotonic()
            _build(step)
            now = time.monotonic()
            say(f"{label} {step.key()} built in {now - started:6.1f} s (total {now - begun:.0f} s)")
        for step in steps:
            _prune(step)


def _build(step: Artefact) -> None:
    """Builds into a folder that gets its name only when it is whole."""
    target = step.folder  # fixed now: a recipe edited while it is built must not name the result
    home = target.parent
    home.mkdir(exist_ok=True)
    for stale in home.glob(NEW + "*"):  # of a builder that was killed: we hold the builders' lock
        discard(stale)
    fresh = Path(tempfile.mkdtemp(prefix=NEW, dir=home))
    try:
        fresh.chmod(0o755)
        (fresh / "lock").touch()
        (fresh / "tree").mkdir()
        step.build(fresh / "tree", {a.name: a.tree for a in step.inputs})
        fresh.rename(target)
    finally:
        if fresh.exists():
            discard(fresh)


def _prune(step: Artefact) -> None:
    """Removes older builds of the same artefact, except those a lab runs on right now."""
    for old in step.folder.parent.iterdir():
        if old == step.folder or old.name.startswith(NEW):
            continue
        descriptor = os.open(old / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            discard(old)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def discard(folder: Path) -> None:
    """Removes a folder of the cache with whatever is still mounted in it."""
    for point, _, _ in reversed(mounts()):
        if point.startswith(f"{folder}/"):
            run("umount", "-l", point, check=False)
    shutil.rmtree(folder)


@contextlib.contextmanager
def _builder_lock(say: Callable[[str], None]) -> Iterator[None]:
    descriptor = os.open(cache_dir() / "builder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another builder of images ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
