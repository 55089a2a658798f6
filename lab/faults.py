"""Faults to put a node through. Each is a context manager: the fault lasts as long as the block.

Power cut, freezing and the cable are methods of `Node`. What this kernel may lack (netem, device-mapper) or a
container may not do (set the clock) is not here.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .cable import INNER
from .host import LabError, clean_env, run
from .node import Node

TABLE = "lab_fault"


@contextlib.contextmanager
def _filtered(node: Node, rule: str) -> Iterator[None]:
    """A packet filter rule on the node's input, set from outside so that the node's own firewall stays alone."""
    chain = f"type filter hook input priority -300\n{rule}\n"
    _nft(node, f"table inet {TABLE} {{\nchain input {{\n{chain}}}\n}}\n")
    try:
        yield
    finally:
        if node.running:  # a node that lost power lost its filter with it
            _nft(node, f"delete table inet {TABLE}\n")


def _nft(node: Node, rules: str) -> None:
    run("ip", "netns", "exec", node.name, "nft", "-f", "-", stdin=rules)


def dropped_port(node: Node, port: int = 22) -> contextlib.AbstractContextManager[None]:
    """Packets to a port vanish: connecting times out."""
    return _filtered(node, f"tcp dport {port} drop")


def refused_port(node: Node, port: int = 22) -> contextlib.AbstractContextManager[None]:
    """Connecting to a port is refused at once; connections there are break."""
    return _filtered(node, f"tcp dport {port} reject with tcp reset")


def packet_loss(node: Node, percent: int) -> contextlib.AbstractContextManager[None]:
    """That share of the packets to the node is lost."""
    return _filtered(node, f"numgen random mod 100 < {percent} drop")


@contextlib.contextmanager
def unplugged(node: Node) -> Iterator[None]:
    """The network cable is out: nothing answers, connections hang."""
    node.cable(up=False)
    try:
        yield
    finally:
        if node.running:
            node.cable(up=True)


@contextlib.contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Every process stands still: connections are accepted, nobody answers."""
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


@contextlib.contextmanager
def slow_network(node: Node, rate: str = "256kbit") -> Iterator[None]:
    """What the node sends is limited to a rate, in tc's words."""
    device = ("tc", "-n", node.name, "qdisc")
    run(*device, "add", "dev", "host0", "root", "tbf", "rate", rate, "burst", "5kb", "latency", "400ms")
    try:
        yield
    finally:
        if node.running:
            run(*device, "del", "dev", "host0", "root")


@contextlib.contextmanager
def latency(node: Node, *, delay: float = 0.0, jitter: float = 0.0, loss: float = 0.0) -> Iterator[None]:
    """Each frame takes `delay` seconds, and up to `jitter` more, each way; a share `loss` never arrives.

    The cable is swapped for a slow one; address and hardware address stay, so open connections live on.
    """
    link = node.link
    ends = [str(link.namespace), INNER, link.device]
    options = ["--delay", str(delay), "--jitter", str(jitter), "--loss", str(loss)]
    link.cut()
    line = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "lab.delayline", *ends, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        env=clean_env(),
    )
    with line:
        try:
            if not line.stdout or line.stdout.readline() != b"ready\n":
                raise LabError("the delay line did not start: is there a /dev/net/tun?")
            run("ip", "-n", node.name, "link", "set", INNER, "address", link.mac)
            link.configure()
            yield
        finally:
            line.kill()
            line.wait()
            # unless the node got a new cable meanwhile, by losing power and coming back
            if node.running and not link.exists():
                link.lay()
                link.configure()


@contextlib.contextmanager
def sshd_stopped(node: Node) -> Iterator[None]:
    """The node runs, its sshd does not: connections are refused."""
    node.run("systemctl stop sshd")
    try:
        yield
    finally:
        node.run("systemctl start sshd")


def kill_ssh_sessions(node: Node) -> None:
    """Kills the sshd of every open session; what the sessions had started goes on running."""
    node.run("pkill -KILL -f '^sshd: .*@' || true")


def reset_connections(node: Node, port: int = 22) -> None:
    """Resets this side's connections to a port of the node."""
    run("ss", "-K", "dst", node.ip, "dport", "=", str(port), check=False)


@contextlib.contextmanager
def small_disk(node: Node, path: str, size: str = "1M", inodes: int | None = None) -> Iterator[None]:
    """An existing folder of the node becomes a small, empty file system of its own, like a full partition."""
    limit = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    owner = node.output(f"stat -c 'uid=%u,gid=%g,mode=%a' '{path}'")
    node.run(f"mount -t tmpfs -o {limit},{owner} lab-small-disk '{path}'")
    try:
        yield
    finally:
        _unmount(node, path)


def fill(node: Node, folder: str) -> None:
    """Fills the file system of a folder to the last block."""
    node.run(f"dd if=/dev/zero of='{folder}/lab-filler' bs=64k status=none", check=False)
    node.run(f"dd if=/dev/zero of='{folder}/lab-filler-end' bs=1 count=65536 status=none", check=False)


@contextlib.contextmanager
def full_disk(node: Node, path: str, size: str = "1M") -> Iterator[None]:
    """An existing folder of the node is on a full file system. Its former contents are hidden."""
    with small_disk(node, path, size):
        fill(node, path)
        yield


@contextlib.contextmanager
def read_only(node: Node, path: str) -> Iterator[None]:
    """A folder of the node cannot be written to, as after a disk error."""
    node.run(f"mount --bind '{path}' '{path}' && mount -o remount,ro,bind '{path}'")
    try:
        yield
    finally:
        _unmount(node, path)


def _unmount(node: Node, path: str) -> None:
    if node.running:
        node.run(f"umount -l '{path}'", check=False)


@contextlib.contextmanager
def immutable(node: Node, path: str) -> Iterator[None]:
    """A file of the node cannot be changed, replaced or removed, not even by root."""
    node.run(f"chattr +i '{path}'")
    try:
        yield
    finally:
        run("chattr", "-i", node.root / path.lstrip("/"))
