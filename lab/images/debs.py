"""Debian packages as raw material: unpacking them, and making programs of another release self-contained."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..host import LabError, run

LOADER = "ld-linux-x86-64.so.2"


class Debs:
    """A folder of Debian packages, unpacked on demand below `work`."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.work = work / folder.parent.parent.name
        self.work.mkdir(parents=True)

    def file(self, package: str) -> Path:
        """The package's file, the newest if there are several."""
        found = sorted(self.folder.glob(f"{package}_*.deb"))
        if not found:
            raise LabError(f"no Debian package {package} was downloaded")
        return found[-1]

    def version(self, package: str) -> str:
        """The upstream version of a package."""
        version = self.file(package).name.split("_")[1].replace("%3a", ":")
        return re.sub(r"^\d+:", "", version).split("-")[0].split("+")[0]

    def unpack(self, *packages: str) -> Path:
        """A folder with the files of the named packages."""
        return self.unpack_files(packages[0], [self.file(p) for p in packages])

    def unpack_files(self, name: str, files: Iterable[Path]) -> Path:
        """A folder, called `name`, with the files of some packages."""
        target = self.work / name
        if not target.exists():
            target.mkdir()
            for file in files:
                run("dpkg-deb", "-x", file, target)
        return target


class Bundler:
    """Gives programs of a newer release the loader and libraries of that release, in a private folder."""

    def __init__(self, tree: Path, private: str, work: Path) -> None:
        self.private = private
        self.work = work / private.strip("/").replace("/", "_")
        self.work.mkdir(parents=True)
        self._index: dict[str, Path] = {}
        for path in (tree / "usr/lib").rglob("*.so*"):
            self._index.setdefault(path.name, path)

    def bundle(self, files: Iterable[tuple[Path, str]]) -> list[tuple[Path, str]]:
        """The same files, patched to use the private folder, with the libraries they need."""
        files = list(files)
        libraries = self._needed([source for source, _ in files])
        result = [(self._library(name), f"{self.private}/{name}") for name in libraries]
        for number, (source, place) in enumerate(files):
            copy = self.work / f"{len(list(self.work.iterdir()))}-{number}-{source.name}"
            shutil.copy2(source, copy)
            if run("patchelf", "--print-interpreter", copy, check=False).returncode == 0:
                run("patchelf", "--set-interpreter", f"{self.private}/{LOADER}", copy)
            run("patchelf", "--set-rpath", self.private, copy)
            result.append((copy, place))
        return result

    def _needed(self, programs: list[Path]) -> list[str]:
        seen, queue = {LOADER}, list(programs)
        while queue:
            current = queue.pop()
            for name in run("patchelf", "--print-needed", current).stdout.split():
                if name in seen:
                    continue
                if name not in self._index:
                    raise LabError(f"{name}, needed by {current.name}, is in none of the downloaded packages")
                seen.add(name)
                queue.append(self._index[name].resolve())
        return sorted(seen)

    def _library(self, name: str) -> Path:
        copy = self.work / name
        if not copy.exists():
            shutil.copy2(self._index[name].resolve(), copy)
            if name != LOADER:
                run("patchelf", "--set-rpath", self.private, copy)
        return copy
