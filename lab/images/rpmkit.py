"""A small RPM workshop: packages described as data, laid out in a folder, built with rpmbuild, signed, indexed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..host import clean_env, run

FILES = Path(__file__).parent / "el_files"
SIGNER = "Lab repository <lab@example.test>"
PUBLIC_KEY = "RPM-GPG-KEY-lab"

SPEC = """\
%global __os_install_post %{{nil}}
%global _build_id_links none
%global debug_package %{{nil}}
%global _binary_payload w1.gzdio
%global _missing_build_ids_terminate_build 0
%global __brp_check_rpaths %{{nil}}
Name: {name}
{header}
License: see the Debian source package
AutoReqProv: no

%description
Files of a Debian package in the layout of {name} of Enterprise Linux.

%install
rm -rf %{{buildroot}}
mkdir -p %{{buildroot}}
cp -al {root}/. %{{buildroot}}/

{scripts}
%files
{files}
"""


@dataclass(frozen=True)
class Dir:
    """A folder a package owns, with its mode and owner."""

    path: str
    mode: str = "755"
    user: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Rpm:
    """One package. `tree` pairs files or folders with where they go; `static` names folders below `el_files`."""

    repo: str
    name: str
    version: str
    release: str = "1.el9"
    epoch: int | None = None
    noarch: bool = False
    summary: str = ""
    requires: Sequence[str] = ()
    provides: Sequence[str] = ()
    tree: Iterable[tuple[Path, str]] = ()
    static: Sequence[str] = ()
    replace: Mapping[str, str] = field(default_factory=dict)
    """Placeholders in the static files' names and contents."""
    text: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    dirs: Sequence[Dir] = ()
    pre: str = ""
    post: str = ""
    units: Sequence[str] = ()

    @property
    def label(self) -> str:
        """Name, version and release, as in the file's name."""
        return f"{self.name}-{self.version}-{self.release}"


def add_user(name: str, home: str) -> str:
    """A scriptlet that makes a system user."""
    return (
        f"getent group {name} >/dev/null || groupadd -r {name}\n"
        f"getent passwd {name} >/dev/null || useradd -r -g {name} -d {home} -s /sbin/nologin {name}\n"
        "exit 0"
    )


def add_fixed_user(name: str, number: int, home: str, shell: str) -> str:
    """A scriptlet that makes a system user with the number Enterprise Linux reserves for it."""
    return (
        f"getent group {name} >/dev/null || groupadd -g {number} -o -r {name}\n"
        f"getent passwd {name} >/dev/null || "
        f"useradd -M -N -g {name} -o -r -d {home} -s {shell} -u {number} {name}\n"
        "exit 0"
    )


def put_static(source: Path, root: Path, replace: Mapping[str, str]) -> None:
    """Copies a folder of text files, filling in placeholders in names and contents."""

    def fill(text: str) -> str:
        for old, new in replace.items():
            text = text.replace(old, new)
        return text

    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        target = root / fill(str(path.relative_to(source)))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(fill(path.read_text()))
        # by hand, as the modes in a working copy depend on the umask of whoever cloned it
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _lay_out(rpm: Rpm, root: Path) -> None:
    """Puts a package's files where they will be on the node, below `root`."""
    root.mkdir(parents=True)
    for source, place in rpm.tree:
        target = root / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    for name in rpm.static:
        put_static(FILES / name, root, rpm.replace)
    for place, content in rpm.text.items():
        target = root / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    for place, goal in rpm.links.items():
        target = root / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(goal)
    for folder in rpm.dirs:
        (root / folder.path.lstrip("/")).mkdir(parents=True, exist_ok=True)


def _file_list(rpm: Rpm, root: Path) -> list[str]:
    owned = {d.path: f"%dir %attr({d.mode},{d.user},{d.group}) {d.path}" for d in rpm.dirs}
    lines = []
    for path in sorted(root.rglob("*")):
        place = "/" + str(path.relative_to(root))
        if path.is_dir() and not path.is_symlink():
            if place not in owned and not any(path.iterdir()):
                lines.append(f"%dir {place}")
            continue
        is_config = place.startswith("/etc/") and not place.endswith(".repo") and not path.is_symlink()
        lines.append(("%config(noreplace) " if is_config else "") + place.replace(" ", "?"))
    return [*lines, *owned.values()]


def _scripts(rpm: Rpm) -> str:
    """The scriptlets; units are handled as the systemd macros of Enterprise Linux do."""
    post, preun, postun = rpm.post, "", ""
    for unit in rpm.units:
        post += f"\nif [ $1 -eq 1 ]; then systemctl --no-reload preset {unit} >/dev/null 2>&1 || :; fi"
        post += "\nsystemctl daemon-reload >/dev/null 2>&1 || :"
        preun += (
            f"\nif [ $1 -eq 0 ]; then systemctl --no-reload disable --now {unit} >/dev/null 2>&1 || :; fi"
        )
        postun += "\nsystemctl daemon-reload >/dev/null 2>&1 || :"
        postun += f"\nif [ $1 -ge 1 ]; then systemctl try-restart {unit} >/dev/null 2>&1 || :; fi"
    sections = (("pre", rpm.pre), ("post", post), ("preun", preun), ("postun", postun))
    return "\n\n".join(f"%{name}\n{body.strip()}" for name, body in sections if body.strip())


def spec(rpm: Rpm, root: Path) -> str:
    """The spec file of a package whose files lie in `root`."""
    header = [f"Epoch: {rpm.epoch}"] if rpm.epoch is not None else []
    header += [f"Version: {rpm.version}", f"Release: {rpm.release}"]
    header.append(f"Summary: {rpm.summary or rpm.name + ' (lab repackaging)'}")
    header += ["BuildArch: noarch"] if rpm.noarch else []
    header += [f"Requires: {x}" for x in rpm.requires] + [f"Provides: {x}" for x in rpm.provides]
    return SPEC.format(
        name=rpm.name,
        header="\n".join(header),
        root=root,
        scripts=_scripts(rpm),
        files="\n".join(_file_list(rpm, root)),
    )


def build(rpm: Rpm, work: Path, out: Path) -> None:
    """Builds one package into the folder of its repository."""
    root = work / "root" / rpm.label
    _lay_out(rpm, root)
    spec_file = work / f"{rpm.label}.spec"
    spec_file.write_text(spec(rpm, root))
    defines = {
        "_topdir": work / "top" / rpm.label,
        "_rpmdir": out / rpm.repo,
        "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    }
    argv = ["rpmbuild", "-bb", "--quiet", "--noclean", "--target", "noarch" if rpm.noarch else "x86_64"]
    for name, value in defines.items():
        argv += ["--define", f"{name} {value}"]
    run(*argv, spec_file, timeout=600, env=clean_env())


def build_repositories(rpms: Sequence[Rpm], work: Path, out: Path) -> None:
    """Builds all packages, signs them with a fresh key, and indexes each repository."""
    for repo in sorted({rpm.repo for rpm in rpms}):
        (out / repo).mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda rpm: build(rpm, work, out), rpms))
    _sign(out, work / "gnupg")
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        run("createrepo_c", "-q", folder, timeout=600)


def _sign(out: Path, keyring: Path) -> None:
    keyring.mkdir(mode=0o700)
    env = clean_env(GNUPGHOME=str(keyring))
    run(
        *("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", ""),
        *("--quick-gen-key", SIGNER, "rsa3072", "sign", "never"),
        env=env,
    )
    (out / PUBLIC_KEY).write_text(run("gpg", "--armor", "--export", env=env).stdout)
    rpms = sorted(out.rglob("*.rpm"))
    sign = ("rpmsign", "--define", f"_gpg_name {SIGNER}", "--define", "__gpg /usr/bin/gpg", "--addsign")
    run(*sign, *rpms, env=env, timeout=900)
    # the agent would outlive us and keep the folder busy
    run("gpgconf", "--kill", "gpg-agent", env=env, check=False)
    time.sleep(0.1)
