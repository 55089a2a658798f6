"""Fleets to test with: manifests, a git repository that holds them, a state directory, and a played node a server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from reconciler import platforms
from reconciler.app import enrolling
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind, SSHKey
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.kit.clock import Clock, utc_now
from reconciler.nodes.answers import Facts, PackageManager, SelinuxState
from reconciler.store import Store
from reconciler.store.state import create_state, open_state
from reconciler.testing.node import FakeNode

Spec = Mapping[str, object]
AUTHOR = ("Ada", "ada@example.test")
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKaoMKbHaVAYH7J3aWy9J6FHtN0bL1sWhNzXy8bYkz5S"
"""The host key that every built server has pinned."""

_SERVERS = 65536
_FAMILIES: dict[str, tuple[PackageManager, SelinuxState]] = {
    "apt": ("apt", "disabled"),
    "dnf": ("dnf", "enforcing"),
}


def manifest(
    kind: str, name: str, spec: Spec, *, moved_from: str = "", labels: Mapping[str, str] | None = None
) -> str:
    """The YAML text of one manifest."""
    metadata: dict[str, object] = {"name": name}
    if labels:
        metadata["labels"] = dict(labels)
    if moved_from:
        metadata["annotations"] = {"reconciler/moved-from": moved_from}
    value = {"apiVersion": "reconciler/v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}
    return yaml.safe_dump(value, sort_keys=False)


def path_of(kind: str, name: str) -> str:
    """Where the builders put a manifest: `servers/web1.yaml`."""
    return f"{kind.lower()}s/{name}.yaml"


def fleet_files(
    servers: int, sites: int, *, databases: int = 0, os: str = "debian_12", labels: Sequence[str] = ()
) -> dict[str, str]:
    """Manifests by path: servers `web1`…, `sites` sites on each and as many of them with a database as `databases` says.

    Addresses are 198.18.0.1 upwards. Server n has the label `group: labels[n]`, round and round, when there are labels.
    """
    files = {path_of("SSHKey", "fleet"): manifest("SSHKey", "fleet", {})}
    for number in range(1, servers + 1):
        server = f"web{number}"
        spec: dict[str, object] = {
            "address": address_of(number),
            "os": os,
            "sshKey": "fleet",
            "software": {"php": ["8.2"]},
        }
        if databases:
            spec["databaseEngines"] = ["mariadb"]
        group = {"group": labels[(number - 1) % len(labels)]} if labels else None
        files[path_of("Server", server)] = manifest("Server", server, spec, labels=group)
        for place in range(1, sites + 1):
            site = f"site{number}-{place}"
            spec = {"server": server, "domain": f"{site}.test", "phpVersion": "8.2"}
            files[path_of("Site", site)] = manifest("Site", site, spec)
            if place <= databases:
                name = f"db{number}-{place}"
                word = name.replace("-", "_")
                spec = {"server": server, "site": site, "engine": "mariadb", "name": word, "username": word}
                files[path_of("Database", name)] = manifest("Database", name, spec)
    return files


def address_of(number: int) -> str:
    """The address of the n-th server, in the network for benchmarks (RFC 2544)."""
    if not 0 < number < _SERVERS:
        raise ValueError(f"server {number} is not between 1 and {_SERVERS - 1}")
    return f"198.18.{number // 256}.{number % 256}"


def facts_of(os: str) -> Facts:
    """What a node with this operating system says of itself, for example `alma_9`. KeyError for an unknown one."""
    platform = platforms.for_os(os)
    family, selinux = _FAMILIES[platform.package_manager]
    return Facts(
        os_id=platform.os_id,
        os_version=platform.os_version,
        os_like="",
        hostname="node",
        kernel="6.1.0",
        arch="x86_64",
        package_manager=family,
        selinux=selinux,
        boot_id="boot-1",
        machine_id="machine-1",
        selinux_policy="targeted" if selinux != "disabled" else "",
        selinux_policy_version="33" if selinux != "disabled" else "",
    )


def load(files: Mapping[str, str]) -> Fleet:
    """The fleet that manifests declare. ValueError with every problem when they are not valid."""
    loaded = load_snapshot(Snapshot("worktree", files={path: text.encode() for path, text in files.items()}))
    if loaded.errors:
        raise ValueError("\n".join(str(problem) for problem in loaded.errors))
    return loaded.fleet


def nodes(fleet: Fleet, *, clock: Clock = utc_now, step_seconds: float = 0.0) -> dict[str, FakeNode]:
    """A played node for each Server, by address, with the operating system that its manifest says."""
    made = {}
    for number, server in enumerate(fleet.servers(), 1):
        facts = replace(facts_of(server.spec.os.value), hostname=server.name, machine_id=f"machine{number}-1")
        node = FakeNode(server.spec.address, facts, clock=clock)
        node.server = server.name
        node.step_seconds = step_seconds
        made[server.spec.address] = node
    return made


def enrolled(folder: Path, fleet: Fleet, *, clock: Clock = utc_now) -> Store:
    """A new state directory, opened, in which every Server of the fleet has its login key and `HOST_KEY` pinned."""
    create_state(folder, {}, clock=clock)
    store = open_state(folder, {}, clock=clock)
    for key in fleet.ssh_keys():
        enrolling.add_key(store, key, None)
    for server in fleet.servers():
        key_of = fleet.get(Kind.SSH_KEY, server.spec.ssh_key)
        if not isinstance(key_of, SSHKey):
            raise TypeError(f"{server.address} names an SSHKey that is not declared")
        enrolling.pin(store, server, [HOST_KEY])
    return store


class Repository:
    """A git repository of manifests, made with the git program; nothing of the machine's git settings counts."""

    def __init__(self, folder: Path, branch: str = "main") -> None:
        self.folder = folder
        if not (folder / ".git").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.git("init", "-q", "-b", branch)

    def git(self, *words: str, author: tuple[str, str] = AUTHOR) -> str:
        """Run git in the work tree: what it printed. RuntimeError with what it said when it fails."""
        name, email = author
        done = subprocess.run(
            ["git", *words],
            cwd=self.folder,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.folder),
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": name,
                "GIT_AUTHOR_EMAIL": email,
                "GIT_COMMITTER_NAME": name,
                "GIT_COMMITTER_EMAIL": email,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files by path; None removes one."""
        for path, text in files.items():
            target = self.folder / path
            if text is None:
                target.unlink()
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def put(self, kind: str, name: str, /, **spec: object) -> None:
        """Write a manifest, in place of the one of before."""
        self.write({path_of(kind, name): manifest(kind, name, spec)})

    def change(self, kind: str, name: str, /, **spec: object) -> None:
        """Replace fields of a manifest's spec; None takes one away."""
        path = self.folder / path_of(kind, name)
        value = yaml.safe_load(path.read_text())
        value["spec"].update(spec)
        value["spec"] = {field: new for field, new in value["spec"].items() if new is not None}
        path.write_text(yaml.safe_dump(value, sort_keys=False))

    def drop(self, kind: str, name: str) -> None:
        """Remove a manifest."""
        self.write({path_of(kind, name): None})

    def commit(self, message: str = "Change the fleet", author: tuple[str, str] = AUTHOR) -> str:
        """Commit the work tree as it is, also when nothing changed; gives the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, author=author)
        return self.git("rev-parse", "HEAD")
