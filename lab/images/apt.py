"""Debian's tools as the recipes use them. The mirror is the host's own: its name is written nowhere here."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..host import LabError, clean_env, run

PACKAGES = Path(__file__).parent / "packages"
RELEASE = "bookworm"
NEXT_RELEASE = "trixie"
SLOW = 3600.0  # seconds; a mirror may be slow, a hang must still end

APT_OPTIONS = (
    "-qq",
    "-oAcquire::Check-Valid-Until=false",
    "-oAPT::Sandbox::User=root",
    "-oAPT::Install-Recommends=false",
)


def listed(name: str) -> list[str]:
    """The entries of a package list, one a line; `#` begins a comment."""
    lines = (PACKAGES / f"{name}.txt").read_text().splitlines()
    return [entry for line in lines if (entry := line.partition("#")[0].strip())]


def host_source() -> Path:
    """The host's own list of Debian mirrors."""
    for name in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        path = Path(name)
        if path.exists() and path.read_text().strip():
            return path
    raise LabError("no Debian package source: neither debian.sources nor sources.list has an entry")


def apt_env() -> dict[str, str]:
    """The environment of apt: the host's proxy settings count, nothing else does."""
    proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    return clean_env(DEBIAN_FRONTEND="noninteractive", **proxies)


def bootstrap(out: Path, packages: Sequence[str]) -> None:
    """Unpacks and configures a minimal Debian with `packages` into the empty folder `out`."""
    options = ["--mode=root", "--variant=minbase", "--quiet"]
    options += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"']
    for folder in ("doc", "man", "locale", "info"):
        options.append(f"--dpkgopt=path-exclude=/usr/share/{folder}/*")
    options += ["--dpkgopt=force-unsafe-io", f"--include={','.join(packages)}"]
    run("mmdebstrap", *options, RELEASE, out, host_source(), timeout=SLOW, env=apt_env())
    shutil.rmtree(out / "var/lib/apt/lists")
    (out / "var/lib/apt/lists/partial").mkdir(parents=True)
    for stale in [
        *(out / "var/cache/apt").glob("*.bin"),
        *(out / "etc/apt/sources.list.d").iterdir(),
        *(out / "etc/ssh").glob("ssh_host_*"),
        out / "etc/apt/sources.list",
        out / "etc/resolv.conf",
    ]:
        stale.unlink(missing_ok=True)
    (out / "etc/machine-id").write_text("")
    (out / "etc/hostname").write_text("node\n")


@contextlib.contextmanager
def overlay(layers: Sequence[Path], upper: Path, binds: Sequence[tuple[Path, str]] = ()) -> Iterator[Path]:
    """A tree to change things in: what changes goes to `upper`, `layers` stay as they are."""
    work, root = upper.parent / "work", upper.parent / "root"
    for folder in (work, root):
        folder.mkdir()
    options = (
        f"lowerdir={':'.join(map(str, layers))},upperdir={upper},workdir={work},index=off,redirect_dir=on"
    )
    run("mount", "-t", "overlay", "overlay", "-o", options, root)
    mounted = [root]
    try:
        for source, target in binds:
            point = root / target.lstrip("/")
            point.mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", source, point)
            mounted.insert(0, point)
        yield root
    finally:
        for point in mounted:
            run("umount", point)
        shutil.rmtree(work)
        root.rmdir()


def fill_pool(base: Path, pool: Path, packages: Sequence[str]) -> None:
    """Downloads packages and whatever they need beyond the tree `base`; makes a flat repository of them."""
    changes = pool.parent / "changes"
    changes.mkdir()
    (pool / "partial").mkdir()
    with overlay([base], changes, [(pool, "/srv/pool")]) as root:
        shutil.copy(host_source(), root / "etc/apt/sources.list.d")
        for name in ("/etc/resolv.conf", "/etc/hosts"):
            shutil.copy(name, root / name.lstrip("/"))
        for keyring in Path("/usr/share/keyrings").glob("debian-archive-*.gpg"):
            shutil.copy(keyring, root / "usr/share/keyrings")
        apt = ("chroot", root, "apt-get", *APT_OPTIONS)
        run(*apt, "update", timeout=SLOW, env=apt_env())
        fetch = (*apt, "-y", "--download-only", "-oDir::Cache::archives=/srv/pool", "install")
        for (
            package
        ) in packages:  # one by one: a package's needs must be there even if another has them installed
            run(*fetch, package, timeout=SLOW, env=apt_env())
    shutil.rmtree(changes)
    shutil.rmtree(pool / "partial")
    (pool / "lock").unlink(missing_ok=True)
    index_pool(pool)


def index_pool(pool: Path) -> None:
    """Writes the index files of a flat repository."""
    packages = run("apt-ftparchive", "packages", ".", cwd=pool, timeout=SLOW).stdout
    (pool / "Packages").write_text(packages)
    about = ("-oAPT::FTPArchive::Release::Origin=lab", "-oAPT::FTPArchive::Release::Suite=lab")
    (pool / "Release").write_text(run("apt-ftparchive", *about, "release", ".", cwd=pool).stdout)


def fetch_next_release(out: Path, packages: Sequence[str]) -> None:
    """Downloads packages of the next Debian release with all they need, leaving the host's apt state alone."""
    state = out.parent / "apt"
    for folder in ("lists/partial", "etc/sources.list.d", "etc/preferences.d"):
        (state / folder).mkdir(parents=True)
    (out / "partial").mkdir()
    (state / "status").touch()
    (state / "etc/sources.list.d/next.sources").write_text(next_release_source(host_source()))
    options = [
        *APT_OPTIONS,
        f"-oDir::State::lists={state}/lists",
        f"-oDir::State::status={state}/status",
        f"-oDir::Cache={state}",
        f"-oDir::Cache::archives={out}",
        "-oDir::Etc::sourcelist=/dev/null",
        f"-oDir::Etc::sourceparts={state}/etc/sources.list.d",
        f"-oDir::Etc::preferencesparts={state}/etc/preferences.d",
    ]
    run("apt-get", *options, "update", timeout=SLOW, env=apt_env())
    run("apt-get", *options, "-y", "--download-only", "install", *packages, timeout=SLOW, env=apt_env())
    shutil.rmtree(state)
    shutil.rmtree(out / "partial")
    (out / "lock").unlink(missing_ok=True)


def next_release_source(source: Path) -> str:
    """The host's main mirror, asked for the next release instead."""
    text = source.read_text()
    if source.suffix == ".sources":
        lines = text.split("\n\n")[0].splitlines()
        return "\n".join(f"Suites: {NEXT_RELEASE}" if x.startswith("Suites:") else x for x in lines) + "\n"
    uri = next(line.split()[1] for line in text.splitlines() if line.startswith("deb ") and "[" not in line)
    return f"Types: deb\nURIs: {uri}\nSuites: {NEXT_RELEASE}\nComponents: main\n"
