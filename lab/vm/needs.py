"""What the virtual machine needs of the host it runs on."""

from __future__ import annotations

import os
import shutil

# (program, Debian package that brings it)
RUN_TOOLS = (
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("ssh", "openssh-client"),
)
BUILD_TOOLS = (
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("mkfs.ext4", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("ssh-keygen", "openssh-client"),
    ("unshare", "util-linux"),
)


def why_not() -> list[str]:
    """Why this host cannot run the machine, one line per missing thing; empty when it can."""
    reasons = []
    if os.geteuid() != 0:  # the key of the machine's administrator is kept from others
        reasons.append("not root: building the machine's disk sets extended attributes, which needs root")
    return reasons + [
        f"{tool} missing: install {package}" for tool, package in RUN_TOOLS if not shutil.which(tool)
    ]
