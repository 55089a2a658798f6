"""What the kernel starts first: loads the drivers of the disk and the network card, and hands over to systemd."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..host import run

# Debian's cloud kernel has ext4 built in, but not these
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net")

# The network is set up here, because nothing in the machine needs to know of it.
INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys
for module in {modules}; do $B insmod /modules/$module; done
$B ip link set lo up; $B ip addr add {address}/24 dev eth0; $B ip link set eth0 up
$B ip route add default via {gateway}
$B mount -t ext4 -o noatime /dev/vda /root
$B umount /proc; $B umount /sys; $B mount -o move /dev /root/dev
exec $B switch_root /root /sbin/init
"""


def initramfs(root: Path, version: str, address: str, out: Path) -> None:
    """Writes the archive for the kernel `version` of the tree `root`; `address` is the machine's, in a /24."""
    folder = root / "lib/modules" / version
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, needed = line.partition(":")
        needs[Path(module).stem] = (module, needed.split())
    ordered: list[str] = []
    for driver in DRIVERS:
        last, first = needs[driver]
        # the one that is needed by the others is named last
        ordered += [name for name in (*reversed(first), last) if name not in ordered]
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        top = Path(temporary)
        for name in ("bin", "dev", "proc", "sys", "root", "modules"):
            (top / name).mkdir()
        busybox = shutil.which("busybox")
        shutil.copy(busybox or "busybox", top / "bin/busybox")
        for name in ordered:
            shutil.copy(folder / name, top / "modules")
        names = " ".join(Path(name).name for name in ordered)
        gateway = address.rpartition(".")[0] + ".2"
        init = top / "init"
        init.write_text(INIT.format(modules=names, address=address, gateway=gateway))
        init.chmod(0o755)
        run("sh", "-c", 'find . | cpio -o -H newc --quiet >"$1"', "sh", out, cwd=top)
