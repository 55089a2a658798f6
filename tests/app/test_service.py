"""The shipped units on a real node: the daemon starts, serves, reloads and ends under systemd, confined as they say."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, Node
from tests.e2e.harness import boot, wait_for

ROOT = Path(__file__).resolve().parents[2]
_DEVELOPMENT = shutil.ignore_patterns("mypy*", "pytest*", "_pytest", "hypothesis*", "*.pth", "__pycache__")
_PROGRAM = """\
#!/usr/bin/python3
import sys
sys.path[:0] = ["/opt/reconciler", "/opt/packages"]
from reconciler.cli.main import main
main()
"""
_SETTINGS = """\
fleets:
  - remotes: [ssh://root@127.0.0.1/srv/git/infra.git, /srv/git/infra.git]
    poll: 5s
    signatures: {policy: head, signers: /etc/reconciler/signers}
    webhookSecret: {file: /etc/reconciler/webhook}
git: {sshKey: {file: /etc/reconciler/id_git}, knownHosts: /etc/reconciler/known_hosts}
http: {listen: "127.0.0.1:8420"}
"""
_MANIFEST = """\
apiVersion: reconciler/v1
kind: User
metadata: {name: ada}
spec: {email: ada@example.test}
"""


_REPOSITORY = """\
set -e
cd /root/fleet
ssh-keygen -q -t ed25519 -N '' -f /root/signing
ssh-keygen -q -t ed25519 -N '' -f /etc/reconciler/id_git
cat /etc/reconciler/id_git.pub >> /root/.ssh/authorized_keys
echo "127.0.0.1 $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)" > /etc/reconciler/known_hosts
echo "ada@example.test $(cut -d' ' -f1,2 /root/signing.pub)" > /etc/reconciler/signers
chgrp reconciler /etc/reconciler/id_git /etc/reconciler/webhook
chmod 0640 /etc/reconciler/id_git /etc/reconciler/webhook
git init -q -b main
git add -A
git -c gpg.format=ssh -c user.signingKey=/root/signing -c user.name=Ada -c user.email=ada@example.test \
    commit -q -S -m Begin
git clone -q --bare . /srv/git/infra.git
"""


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Node]:
    """A machine with the program, its account and units, a repository and settings."""
    node = boot(lab, host="debian12")["host"]
    try:
        yield installed(node)
    finally:
        node.remove()


@pytest.fixture
def host(machine: Node) -> Iterator[Node]:
    """The machine, with nothing of it running before and after a test."""
    yield machine
    machine.run("systemctl stop reconciler.socket reconciler.service", check=False)


def installed(node: Node) -> Node:
    packages = Path(sysconfig.get_paths()["purelib"])
    shutil.copytree(packages, node.root / "opt/packages", ignore=_DEVELOPMENT)
    for part in ("reconciler", "templates", "selinux", "schemas"):
        shutil.copytree(ROOT / part, node.root / "opt/reconciler" / part)
    node.write("/usr/bin/reconciler", _PROGRAM, mode=0o755)
    node.write("/usr/lib/sysusers.d/reconciler.conf", (ROOT / "packaging/reconciler.sysusers").read_text())
    for unit in ("reconciler.service", "reconciler.socket"):
        node.write(f"/etc/systemd/system/{unit}", (ROOT / "packaging" / unit).read_text())
    node.run("systemd-sysusers && install -d -m 0755 /etc/reconciler /srv/git")
    node.run("install -d -o reconciler -g reconciler -m 0700 /var/lib/reconciler")
    node.write("/etc/reconciler/reconciler.yaml", _SETTINGS, mode=0o644)
    node.write("/etc/reconciler/webhook", "a webhook's secret\n")
    node.write("/root/fleet/ada.yaml", _MANIFEST)
    node.run(_REPOSITORY)
    operator(node, "init")
    node.run("systemctl daemon-reload")
    return node


def operator(node: Node, words: str) -> str:
    """A verb as an operator runs it: by sudo, as the daemon's user, who needs no --state."""
    return node.output(f"SUDO_USER=ada runuser -u reconciler -- reconciler {words}")


def shown(node: Node, unit: str, name: str) -> str:
    return node.output(f"systemctl show --value -p {name} {unit}").strip()


def followed(node: Node) -> bool:
    done = node.run("runuser -u reconciler -- reconciler source --output json", check=False)
    found = json.loads(done.stdout or "[]")
    return bool(found) and (found[0]["state"], found[0]["remote"].partition(":")[0]) == ("ok", "ssh")


def test_the_daemon_lives_under_systemd(host: Node) -> None:
    host.run("systemctl start reconciler.service")  # returns when it is ready
    assert shown(host, "reconciler.service", "ActiveState") == "active"
    assert shown(host, "reconciler.service", "StatusText") != ""
    assert shown(host, "reconciler.service", "NRestarts") == "0"
    wait_for(lambda: followed(host), 60)
    assert "User/ada" in wait_for(lambda: operator(host, "status --output json || true"), 60)
    assert host.output("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8420/healthz") == "200"

    assert "no daemon" not in operator(host, "suspend --fleet main --reason tests 2>&1")
    assert "ada" in operator(host, "suspend")

    before = shown(host, "reconciler.service", "MainPID")
    host.run("systemctl reload reconciler.service")
    wait_for(lambda: shown(host, "reconciler.service", "ActiveState") == "active", 30)
    assert shown(host, "reconciler.service", "MainPID") == before

    host.run("systemctl stop reconciler.service")
    assert shown(host, "reconciler.service", "Result") == "success"
    assert "no daemon is running" in operator(host, "resume --fleet main 2>&1")


def test_systemd_holds_the_socket_while_the_daemon_is_away(host: Node) -> None:
    host.run("systemctl start reconciler.socket")
    assert shown(host, "reconciler.service", "ActiveState") == "inactive"
    said = host.output("curl -sS -o /dev/null -w '%{http_code}' --max-time 60 http://127.0.0.1:8420/healthz")
    assert said == "200"
    assert shown(host, "reconciler.service", "ActiveState") == "active"


def test_the_key_may_be_a_credential(host: Node) -> None:
    kept, given = "/var/lib/reconciler/app.key", "/etc/credstore/reconciler.app_key"
    host.run(f"install -d -m 0700 /etc/credstore && mv {kept} {given} && chown root:root {given}")
    try:
        host.run("systemctl start reconciler.service")
        assert shown(host, "reconciler.service", "ActiveState") == "active"
    finally:
        host.run(f"mv {given} {kept} && chown reconciler:reconciler {kept}")
