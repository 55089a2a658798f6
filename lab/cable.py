"""A node's network: a namespace of its own, and the cable from there to the lab's bridge."""

from __future__ import annotations

from pathlib import Path

from .host import run

NETWORK = "198.18.0"  # from the range kept for benchmarks (RFC 2544): never routed
CONTROLLER = f"{NETWORK}.1"
INNER = "host0"  # the interface's name in the node


class Cable:
    """The link of one node. Its end on the bridge is called `device`."""

    def __init__(self, node: str, ip: str, bridge: str) -> None:
        octet = int(ip.rsplit(".", 1)[1])
        self.node = node
        self.ip = ip
        self.bridge = bridge
        self.device = f"vl{octet}"
        # fixed, so that after a restart or another cable the neighbours' tables are still right
        self.mac = f"02:00:c6:12:00:{octet:02x}"

    @property
    def namespace(self) -> Path:
        """The file that names the node's network namespace."""
        return Path("/run/netns", self.node)

    def plug_in(self) -> None:
        """Makes a fresh network namespace and connects it."""
        self.unplug()
        run("ip", "netns", "add", self.node)
        self.lay()
        self.configure()

    def unplug(self) -> None:
        """Takes the namespace away, with all that is in it."""
        if self.namespace.exists():
            run("ip", "netns", "del", self.node, check=False)
        # the kernel takes the pair away a moment later; its name must be free for the next start
        self.cut()

    def lay(self) -> None:
        """A plain cable: a pair of interfaces."""
        pair = f"type veth peer name {INNER} address {self.mac} netns {self.node}"
        run("ip", "-batch", "-", stdin=f"link add {self.device} {pair}\n")

    def cut(self) -> None:
        """Removes the cable, leaving the namespace."""
        run("ip", "link", "del", self.device, check=False)

    def exists(self) -> bool:
        """Whether there is a cable, plugged in or not."""
        return (
            Path("/sys/class/net", self.device).exists()
            or not run("ip", "link", "show", self.device, check=False).returncode
        )

    def configure(self) -> None:
        """Addresses on the node's side, the bridge on ours."""
        run("ip", "link", "set", self.device, "master", self.bridge, "up")
        run(
            *("ip", "-n", self.node, "-batch", "-"),
            stdin=f"addr add {self.ip}/24 dev {INNER}\nlink set {INNER} up\nlink set lo up\n"
            f"route add default via {CONTROLLER}\n",
        )

    def set(self, state: str) -> None:
        """Plugs our end "up" or "down"."""
        run("ip", "link", "set", self.device, state)
