"""The command line: `python3 -m lab images|doctor|sweep|up`. Needs nothing but the system's Python."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import sys

from .core import Lab
from .host import LabError, go_private, why_not
from .images.cache import build_all, cache_dir
from .images.registry import MACHINE, NAMES, artefacts, missing
from .sweep import sweep
from .vm.needs import BUILD_TOOLS as MACHINE_TOOLS
from .vm.needs import RUN_TOOLS as MACHINE_RUN_TOOLS

# (program, Debian package that brings it): only building needs these
BUILD_TOOLS = (
    ("mmdebstrap", "mmdebstrap"),
    ("apt-ftparchive", "apt-utils"),
    ("rpmbuild", "rpm"),
    ("rpmsign", "rpm"),
    ("createrepo_c", "createrepo-c"),
    ("patchelf", "patchelf"),
    ("gpg", "gpg"),
    ("gpg-agent", "gpg-agent"),
    ("dpkg-deb", "dpkg"),
    ("chroot", "coreutils"),
    *MACHINE_TOOLS,
    *MACHINE_RUN_TOOLS,
)


def _buildable(name: str) -> str:
    return name if name == MACHINE else _image(name)


def _image(name: str) -> str:
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no image {name}, only {', '.join(NAMES)}")
    return name


def _say(line: str) -> None:
    print(line, flush=True)


def _missing_tools() -> list[str]:
    return [f"{tool} missing: install {package}" for tool, package in BUILD_TOOLS if not shutil.which(tool)]


def images(names: list[str]) -> int:
    """Builds the images that are not there yet."""
    reasons = why_not() + _missing_tools()
    if reasons:
        return _complain(reasons)
    go_private(network=False)  # what a killed build left mounted goes with it
    _say(f"images are kept in {cache_dir()}")
    build_all(artefacts(*names), _say)
    return 0


def doctor() -> int:
    """Says what keeps the lab from running here, or from being built."""
    reasons = why_not()
    absent = missing()
    if absent:
        reasons += _missing_tools()
        reasons.append(f"images not built: {', '.join(absent)}: run `python3 -m lab images`")
    if reasons:
        return _complain(reasons)
    _say("the lab can run here")
    return 0


def clean() -> int:
    """Removes what labs left whose owner is gone."""
    if os.geteuid() != 0:
        return _complain(why_not())
    for name in sweep():
        _say(f"removed {name}")
    return 0


def up(names: list[str]) -> int:
    """Starts a node for each image and keeps them until interrupted."""
    reasons = why_not()
    if reasons:
        return _complain(reasons)
    with Lab() as lab:
        nodes = [lab.add(f"{image}-{number}", image) for number, image in enumerate(names, 1)]
        lab.up(*nodes)
        _say(f"network of the lab:  nsenter -t {os.getpid()} -n -m")
        for node in nodes:
            _say(f"\n{node.name} {node.ip} ({node.boot_seconds:.1f} s)\n  from the lab's network:")
            _say(f"  {shlex.join(node.ssh_argv())}")
            _say(f"  without network: nsenter -a -r -w -t {node.init_pid()}")
        _say("\nCtrl-C ends it all")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def _complain(reasons: list[str]) -> int:
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 1


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs one command."""
    parser = argparse.ArgumentParser(prog="python3 -m lab", description="a lab of real nodes on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("images", help="build what is missing")
    build.add_argument(
        "names", nargs="*", type=_buildable, metavar="image", help=", ".join((*NAMES, MACHINE))
    )
    commands.add_parser("doctor", help="say what is missing on this machine")
    commands.add_parser("sweep", help="remove what dead labs left behind")
    start = commands.add_parser("up", help="start nodes and keep them until Ctrl-C")
    start.add_argument("names", nargs="+", type=_image, metavar="image", help=", ".join(NAMES))
    chosen = parser.parse_args(argv)
    try:
        if chosen.command == "images":
            return images(chosen.names)
        if chosen.command == "up":
            return up(chosen.names)
        return doctor() if chosen.command == "doctor" else clean()
    except LabError as error:
        return _complain([str(error)])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
