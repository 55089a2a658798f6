"""A cable with delay, jitter, loss and limited speed, made of two TAP devices and this process between them.

For kernels without netem. Run by `lab.faults.latency`; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import time
from dataclasses import dataclass

TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x1002
CLONE_NEWNET = 0x40000000
FRAME = 65536


@dataclass(frozen=True)
class Line:
    """What happens to a frame on the way."""

    delay: float
    jitter: float
    loss: float
    rate: float
    """Bytes a second, 0 for no limit."""


def open_tap(name: str) -> int:
    """A TAP device in the current network namespace; it goes away with its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    return descriptor


def enter(descriptor: int) -> None:
    """Moves this process into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def carry(inner: int, outer: int, line: Line) -> None:
    """Passes frames both ways until standard input ends."""
    queue: list[tuple[float, int, int, bytes]] = []
    free_at = {inner: 0.0, outer: 0.0}
    number = 0
    poll = select.epoll()
    for descriptor in (inner, outer, 0):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        while queue and queue[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(queue)
            send(target, frame)
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else -1.0
        for descriptor, _ in poll.poll(wait):
            if descriptor == 0:
                return
            target = outer if descriptor == inner else inner
            for frame in received(descriptor):
                if random.random() < line.loss:
                    continue
                due = time.monotonic() + line.delay + random.uniform(0, line.jitter)
                if line.rate:
                    due = free_at[target] = max(due, free_at[target]) + len(frame) / line.rate
                number += 1
                heapq.heappush(queue, (due, number, target, frame))


def received(descriptor: int) -> list[bytes]:
    """All frames that are waiting on a device."""
    frames = []
    try:
        while True:
            frames.append(os.read(descriptor, FRAME))
    except OSError:  # nothing more, or the device is down
        return frames


def send(descriptor: int, frame: bytes) -> None:
    """Sends a frame; one that the other side does not take is lost, as on any wire."""
    try:
        os.write(descriptor, frame)
    except OSError:
        return


def main() -> None:
    """Makes both devices, says `ready`, and works until its owner is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("namespace", "inner", "outer"):
        parser.add_argument(name)
    for name in ("delay", "jitter", "loss", "rate"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    chosen = parser.parse_args()
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(chosen.namespace, os.O_RDONLY)
    outer = open_tap(chosen.outer)
    enter(there)
    inner = open_tap(chosen.inner)
    enter(here)
    print("ready", flush=True)
    carry(inner, outer, Line(chosen.delay, chosen.jitter, chosen.loss, chosen.rate))


if __name__ == "__main__":
    main()
