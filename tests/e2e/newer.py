"""A newer build of nginx in a repository of the node's own, made of the one that the node could install."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from lab import Node
from lab.images.rpmkit import Rpm, build

FOLDER = "/srv/newer"
SOURCE = {"el": "/etc/yum.repos.d/newer.repo", "deb": "/etc/apt/sources.list.d/newer.list"}
SLOW = "/root/slow"
"""While a node has this file, the scripts of the newer builds do not come to an end."""
_REFUSES = "echo no room for this nginx >&2\nexit 1\n"
_WAITS = f"if [ -e {SLOW} ]; then sleep 600; fi\n"


def family(node: Node) -> str:
    return "el" if node.image.name.startswith("el") else "deb"


def offer(node: Node, work: Path, number: int, *, broken: bool = False) -> str:
    """Offer build `number` (1 to 9), in place of the one before: its version. A `broken` one refuses to be unpacked."""
    shutil.rmtree(node.root / FOLDER.lstrip("/"), ignore_errors=True)
    work.mkdir(parents=True)
    make = _rpm if family(node) == "el" else _deb
    folder, version = make(node, work, number, "" if not broken else _REFUSES)
    shutil.copytree(folder, node.root / FOLDER.lstrip("/"))
    node.write(
        SOURCE[family(node)],
        f"[newer]\nname=newer\nbaseurl=file://{FOLDER}\nenabled=1\ngpgcheck=0\n"
        if make is _rpm
        else f"deb [trusted=yes] file:{FOLDER} ./\n",
    )
    return version


def withdraw(node: Node) -> None:
    """Offer nothing any more."""
    node.run(f"rm -r {FOLDER} {SOURCE[family(node)]}")
    node.run("dnf -q clean all" if family(node) == "el" else "apt-get -q update", timeout=120)


def _rpm(node: Node, work: Path, number: int, pre: str) -> tuple[Path, str]:
    # the epoch counts before the version: a build without it is older, whatever its release
    epoch, version = node.output("rpm -q --qf '%{EPOCH} %{VERSION}' nginx").split()
    newer = Rpm(
        *("newer", "nginx", version, f"{90 + number}.el9"),
        epoch=int(epoch),
        requires=("nginx-core",),
        static=("nginx",),
        pre=pre,
        post=_WAITS,
        units=("nginx.service",),
    )
    out = work / "out"
    (out / "newer").mkdir(parents=True)
    build(newer, work, out)
    subprocess.run(["createrepo_c", "-q", out / "newer"], check=True)
    return out / "newer", f"{version}-{newer.release}"


def _deb(node: Node, work: Path, number: int, pre: str) -> tuple[Path, str]:
    ((pool, _),) = node.image.binds
    (old,) = Path(pool).glob("nginx_*.deb")
    tree, out = work / "tree", work / "out"
    out.mkdir()
    subprocess.run(["dpkg-deb", "-R", old, tree], check=True)
    control = tree / "DEBIAN/control"
    found = re.search(r"^Version: (.+)$", control.read_text(), re.M)
    assert found is not None
    newer = f"{found[1]}+lab{number}"
    control.write_text(control.read_text().replace(found[0], f"Version: {newer}", 1))
    if pre:
        _script(tree / "DEBIAN/preinst", pre)
    _script(tree / "DEBIAN/postinst", _WAITS)
    package = out / f"nginx-{newer}.deb"
    subprocess.run(["dpkg-deb", "-b", "-Znone", tree, package], check=True, capture_output=True)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    fields = control.read_text().rstrip("\n")
    entry = f"{fields}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n\n"
    (out / "Packages").write_text(entry)
    return out, newer


def _script(path: Path, first: str) -> None:
    """Have a package's script begin with these lines."""
    rest = path.read_text().partition("\n")[2] if path.exists() else ""
    path.write_text(f"#!/bin/sh\n{first}{rest}")
    path.chmod(0o755)
