"""A node of the lab with the sites of a fleet in place, and requests to them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytest

from lab import ImageMissing, Lab, Node
from lab.images.bake import DEBIAN_UNITS, EL_UNITS
from reconciler import blueprint
from reconciler.desired.fleet import Fleet, Key
from reconciler.kit.secret import Secret

from . import by_hand
from .fleets import fleet_of, only_server, system_users

FAMILIES = {"el9-web": ("rocky_9", EL_UNITS), "debian12-web": ("debian_12", DEBIAN_UNITS)}
"""Images, with the system that a manifest names and the units that are up when they are."""

WebName = Literal["nginx", "caddy"]
COMBINATIONS: tuple[tuple[str, WebName], ...] = tuple(
    (image, web) for web in ("nginx", "caddy") for image in FAMILIES
)
"""Every image with every web server, which are held to one description."""
COMBINATION_IDS = [f"{image.partition('-')[0]}-{web}" for image, web in COMBINATIONS]
INSTALL_CADDY = """
set -e
systemctl disable --now nginx
if command -v apt-get > /dev/null; then apt-get -q update && apt-get -q -y install caddy; else dnf -q -y install caddy; fi
"""
"""Debian starts caddy when it is installed, so that nginx must be gone."""


def password(key: Key, field: str) -> Secret:
    """The password of a database."""
    return Secret(f"pass-{key.name}-{field}")


@dataclass
class Served:
    """A node with the fleet in place."""

    node: Node
    fleet: Fleet
    web: WebName = "nginx"

    def user(self, site: str) -> str:
        """The system user of a site."""
        return next(v["system_user"] for k, v in system_users(self.fleet).items() if k.name == site)

    def put(self, site: str, path: str, text: str) -> None:
        """Writes a file as the site's user, below its public_html."""
        user = self.user(site)
        full = f"/home/{user}/public_html/{path}"
        script = f"mkdir -p $(dirname {full}) && cat > {full}"
        self.node.run(f"runuser -u {user} -- sh -c {shlex.quote(script)}", stdin=text)

    def get(self, host: str, path: str = "/", *options: str) -> tuple[int, str, str]:
        """Status, headers and body of an answer of the node's own web server."""
        done = self.node.run_argv(
            [
                "curl",
                "-sS",
                "-D",
                "-",
                "--max-time",
                "20",
                "--path-as-is",
                "-H",
                "Expect:",
                *options,
                "-H",
                f"Host: {host}",
                f"http://127.0.0.1{path}",
            ]
        ).stdout
        head, _, body = done.partition("\n\n")
        return int(head.split()[1]), head, body

    def wait_until_reloaded(self) -> None:
        """nginx tells nobody when its new processes have taken over; the page of the suspended site does."""
        self.node.run(
            "for n in $(seq 100); do curl -s -H 'Host: asleep.test' http://127.0.0.1/ | grep -q suspended && exit; "
            "sleep 0.1; done; exit 1"
        )

    def as_user(self, site: str, command: str) -> int:
        """Exit status of a shell command run as the site's user."""
        return self.node.run(
            f"runuser -u {self.user(site)} -- sh -c {shlex.quote(command)}", check=False
        ).returncode


@contextmanager
def serving(lab: Lab, name: str, image: str, text: str, web: WebName = "nginx") -> Iterator[Served]:
    """A node with the fleet of `text` in place, where `OS` stands for its system and `WEB` for `web`. Without its image the test is skipped."""
    os_name, units = FAMILIES[image]
    try:
        node = lab.add(name, image)
    except ImageMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"node lab not available: {error}")
    try:
        lab.up(node)
        node.wait_active(*units)
        if web == "caddy":
            node.run(INSTALL_CADDY, timeout=180)
        fleet = fleet_of(text.replace("OS", os_name).replace("WEB", web))
        bundle = blueprint.bundle(only_server(fleet), fleet, system_users(fleet), password)
        by_hand.apply(node, bundle)
        made = Served(node, fleet, web)
        made.wait_until_reloaded()
        yield made
    finally:
        node.remove()
