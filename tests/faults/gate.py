"""An apply that stands still in its middle until a test lets it go on: the site's unit waits when it is reloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab import Node
from tests.e2e.harness import wait_for

from .stage import Stage

_GO, _THERE = "/run/gate-go", "/run/gate-there"
# Below /run: a node that loses power comes back without a gate. `+`: the unit's user may not write there.
_DROP_IN = f"""\
[Service]
ExecReload=
ExecReload=+/bin/sh -c 'touch {_THERE}; until [ -e {_GO} ]; do sleep 0.05; done'
ExecReload=/bin/kill -USR2 $MAINPID
"""


class Gate:
    """A closed gate. What stands at it goes on when it is opened; it stays open then."""

    def __init__(self, stage: Stage, node: Node) -> None:
        self._stage = stage
        self._node = node

    def wait(self, seconds: float = 60) -> None:
        """Wait until an apply stands at the gate."""
        self._stage.wait(lambda: self._node.run(f"test -e {_THERE}", check=False).returncode == 0, seconds)

    def open(self) -> None:
        """Let it go on."""
        self._node.run(f"touch {_GO}")


@contextmanager
def gate(stage: Stage, site: str = "shop") -> Iterator[Gate]:
    """The next apply that changes the site's PHP settings stands still when it has written them."""
    node = stage.nodes[stage.server_of(site)]
    folder = f"/run/systemd/system/panel-fpm-{site}.service.d"
    node.run(
        f"rm -f {_GO} {_THERE} && mkdir -p {folder} && cat > {folder}/gate.conf && systemctl daemon-reload",
        stdin=_DROP_IN,
    )
    made = Gate(stage, node)
    try:
        yield made
    finally:
        if node.running:
            made.open()
            # systemd forgets the rest of a reload's commands when it reads its units anew
            wait_for(lambda: not _busy(node, site), 20)
            node.run(f"rm -rf {folder} && systemctl daemon-reload")


def _busy(node: Node, site: str) -> bool:
    return (
        node.run(f"systemctl show -P ActiveState panel-fpm-{site}", check=False).stdout.strip() == "reloading"
    )
