"""The lab: a private network with a bridge, the keys, and the nodes on it; leaves nothing behind, however it ends."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from .cable import CONTROLLER, NETWORK
from .host import LabError, LabUnavailable, cgroup_roots, clean_env, go_private, run, scratch_dir, why_not
from .images.cache import Image
from .images.registry import find
from .node import Key, Node
from .sweep import FRESH_PREFIX, PREFIX, remove_cgroup, sweep

FIRST_NODE, LAST_NODE = 11, 250


class Lab:
    """Nodes on a private network. Puts the *calling process* into mount and network namespaces of its own,
    for the rest of its life: the daemon and the servers a test starts sit on 198.18.0.1 and reach the nodes
    and nothing else.
    """

    def __init__(self, images: Mapping[str, Image] | None = None) -> None:
        reasons = why_not()
        scratch = scratch_dir()
        if reasons or scratch is None:
            raise LabUnavailable("; ".join(reasons))
        if threading.current_thread() is not threading.main_thread():
            raise LabError("a lab is made in the main thread: namespaces belong to threads")
        sweep(scratch)
        self.images = images
        self.bridge = "lab0"
        self.controller = CONTROLLER
        self.nodes: dict[str, Node] = {}
        self._owner = os.getpid()
        self._image_locks: dict[Path, int] = {}
        self.dir = self._claim_dir(scratch)
        go_private()
        run(
            *("ip", "-batch", "-"),
            stdin=f"link set lo up\nlink add {self.bridge} type bridge\n"
            f"addr add {CONTROLLER}/24 dev {self.bridge}\nlink set {self.bridge} up\n",
        )
        self.key = Key(self._new_key("id"), self.dir / "known_hosts")
        self.public_key = self.key.private.with_suffix(".pub").read_text()
        self.host_key = self._new_key("host_key")
        kind_and_key = " ".join(self.host_key.with_suffix(".pub").read_text().split()[:2])
        self.key.known_hosts.write_text("".join(f"{NETWORK}.{i} {kind_and_key}\n" for i in range(2, 255)))
        self._start_janitor()
        atexit.register(self.close)

    def _claim_dir(self, scratch: Path) -> Path:
        # locked before it gets the name that sweep() looks for: two labs starting together must not take
        # each other for dead
        fresh = Path(tempfile.mkdtemp(prefix=FRESH_PREFIX, dir=scratch))
        self._lock = os.open(fresh / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fresh.rename(scratch / (PREFIX + fresh.name[len(FRESH_PREFIX) :]))

    def _new_key(self, name: str) -> Path:
        path = self.dir / name
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", path)
        return path

    def _start_janitor(self) -> None:
        reader, self._lifeline = os.pipe()  # ends when this process is gone, however it went
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "lab.sweep", str(self.dir)],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
            env=clean_env(),
            start_new_session=True,
        )
        os.close(reader)

    def hosts_file(self) -> str:
        """Names of the nodes there are so far, in the form of /etc/hosts."""
        lines = [f"{node.ip} {node.name}" for node in self.nodes.values()]
        return "\n".join(["127.0.0.1 localhost", f"{CONTROLLER} controller", *lines, ""])

    def add(self, name: str, image: str | Image) -> Node:
        """A new node on the next free address, not started yet."""
        if name in self.nodes:
            raise ValueError(f"there is a node {name} already")
        if isinstance(image, str):
            image = self.images[image] if self.images is not None else find(image)
        for folder in image.artefacts:
            self._hold(folder)
        taken = {node.ip for node in self.nodes.values()}
        ip = next(ip for i in range(FIRST_NODE, LAST_NODE) if (ip := f"{NETWORK}.{i}") not in taken)
        self.nodes[name] = Node(self, name, ip, image)
        return self.nodes[name]

    def _hold(self, artefact: Path) -> None:
        """Keeps a builder from pruning an image that nodes run on."""
        if artefact not in self._image_locks:
            descriptor = os.open(artefact / "lock", os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._image_locks[artefact] = descriptor

    def up(self, *nodes: Node) -> None:
        """Starts the nodes (all, if none is named) at once and waits until their sshd answers."""
        chosen = nodes or tuple(self.nodes.values())
        for node in chosen:
            node.start()
        for node in chosen:
            node.wait_ssh()

    def forget(self, node: Node) -> None:
        """Frees the name and address of a removed node."""
        self.nodes.pop(node.name, None)

    def close(self) -> None:
        """Removes everything. The process stays in its private, now empty, namespaces."""
        if os.getpid() != self._owner or self._lifeline < 0:
            return  # a fork of the owner, or closed before
        atexit.unregister(self.close)
        for node in list(self.nodes.values()):
            try:
                node.remove()
            except (OSError, LabError, subprocess.SubprocessError) as error:
                print(f"lab: closing {node.name}: {error}", file=sys.stderr)
        run("ip", "link", "del", self.bridge, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
        for root in cgroup_roots():
            remove_cgroup(root / self.dir.name)
        os.close(self._lifeline)
        self._lifeline = -1
        self._janitor.wait(15)
        for descriptor in (*self._image_locks.values(), self._lock):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
