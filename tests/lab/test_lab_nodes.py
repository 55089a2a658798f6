"""What a node is: a booted system with sshd, a working package manager and, in the web images, a running stack."""

from __future__ import annotations

import json
import urllib.request

import pytest

from lab import Lab, LabError, Node
from tests.lab_fixtures import WEB_UNITS, MakeNode, MakeNodes

INSTALL = {"el9": "dnf -y -q install {}", "debian12": "apt-get -qq update && apt-get -qq install -y {}"}
OS_ID = {"el9": 'ID="almalinux"', "debian12": "ID=debian"}
# everything the agent on a node imports; a minimal python3 would lack some of it
MODULES = (
    "base64, fcntl, grp, hashlib, hmac, io, json, os, pwd, shutil, signal, socket, sqlite3, ssl, struct, subprocess, "
    "tempfile, time, urllib.request, zipfile, zipimport, zlib"
)


def http_get(node: Node, host: str = "localhost") -> str:
    """Asks a node's web server from this side of the network."""
    request = urllib.request.Request(f"http://{node.ip}/", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_boots_into_a_whole_system(node: Node) -> None:
    assert node.ssh("systemctl is-system-running --wait", check=False).stdout.strip() == "running"
    assert node.ssh("hostname").stdout.strip() == node.name
    assert OS_ID[node.image.name] in node.ssh("cat /etc/os-release").stdout.splitlines()
    assert node.boot_seconds > 0
    assert 5 < node.memory_mib() < 500


def test_is_freshly_installed(node: Node) -> None:
    assert node.run("id panel", check=False).returncode != 0
    node.run("command -v sudo systemctl git curl tar")
    assert node.run("systemctl is-active nginx", check=False).returncode != 0
    assert node.output("systemctl is-active sshd") == "active"


def test_has_the_whole_standard_library(node: Node) -> None:
    node.ssh(f"python3 -c 'import {MODULES}'")


def test_installs_from_the_local_repository(node: Node) -> None:
    node.ssh(INSTALL[node.image.name].format("nginx"))
    node.ssh("systemctl enable --now nginx")
    node.wait_active("nginx")
    assert "<h1>" in http_get(node)


def test_unknown_package_is_an_error(node: Node) -> None:
    done = node.ssh(INSTALL[node.image.name].format("no-such-package"), check=False)
    assert done.returncode != 0
    assert "no-such-package" in done.stdout + done.stderr


def test_el_packages_are_signed_and_checked(el_node: Node) -> None:
    assert "gpgcheck=1" in el_node.read("/etc/dnf/dnf.conf")
    el_node.run("rpm --erase --allmatches gpg-pubkey && sed -i /gpgkey/d /etc/yum.repos.d/*.repo")
    refused = el_node.run("dnf -y install nginx", check=False)
    assert refused.returncode != 0
    assert "not signed" in refused.stderr or "GPG" in refused.stderr + refused.stdout


def test_el_has_two_versions_of_nginx(el_node: Node) -> None:
    versions = el_node.output("dnf -q repoquery --qf '%{version}' nginx").split()
    assert len(versions) == 2
    el_node.run(f"dnf -y -q install nginx-{versions[0]} && dnf -y -q upgrade nginx")
    assert el_node.output("rpm -q --qf '%{version}' nginx") == versions[1]


def test_el_service_is_not_started_by_its_installation(el_node: Node) -> None:
    el_node.run("dnf -y -q install redis")
    assert el_node.run("systemctl is-enabled redis", check=False).stdout.strip() == "disabled"


def test_web_node_runs_everything(web_node: Node) -> None:
    states = web_node.output(f"systemctl is-active {' '.join(WEB_UNITS[web_node.image.name])}")
    assert set(states.split()) == {"active"}
    assert web_node.output("systemctl --failed --no-legend") == ""
    assert "<h1>" in http_get(web_node)
    assert web_node.output("mariadb -Ne 'select 1'") == "1"
    assert web_node.output("runuser -u postgres -- psql -Atc 'select 1'") == "1"
    assert web_node.output("redis-cli ping") == "PONG"


def test_web_nodes_do_not_share_an_identity(make_nodes: MakeNodes) -> None:
    first, second = make_nodes("debian12-web", "debian12-web")
    assert first.ip != second.ip
    assert first.read("/etc/machine-id") != second.read("/etc/machine-id")
    assert second.output(f"getent hosts {first.name}").split() == [first.ip, first.name]


@pytest.mark.parametrize(
    ("image", "php"),
    [("el9-web", "php82"), ("el9-web", "php84"), ("debian12-web", "php8.2")],
)
def test_php_has_its_extensions(make_node: MakeNode, image: str, php: str) -> None:
    node = make_node(image)
    done = node.run(f"{php} -r 'echo json_encode(array_map(\"strtolower\", get_loaded_extensions()));'")
    assert done.stderr == ""
    loaded = set(json.loads(done.stdout))
    wanted = {
        "pdo_mysql",
        "pdo_pgsql",
        "mbstring",
        "dom",
        "curl",
        "zip",
        "gd",
        "bcmath",
        "intl",
        "redis",
        "posix",
    }
    assert wanted <= loaded


def test_files_can_be_written_from_outside(debian_node: Node) -> None:
    debian_node.write("/srv/made/here.sh", "#!/bin/sh\necho made here\n", mode=0o755)
    assert debian_node.ssh("/srv/made/here.sh").stdout == "made here\n"
    assert debian_node.read("/srv/made/here.sh").startswith("#!/bin/sh")


def test_reach_is_the_lab_and_nothing_else(lab: Lab, debian_node: Node) -> None:
    assert debian_node.run(f"ping -c1 -W2 {lab.controller}").returncode == 0
    assert debian_node.run("ping -c1 -W2 192.0.2.1", check=False).returncode != 0


def test_a_failed_command_says_what_it_said(debian_node: Node) -> None:
    with pytest.raises(LabError, match=r"(?s)status 3.*went wrong"):
        debian_node.ssh("echo went wrong >&2; exit 3")
    assert debian_node.ssh("exit 3", check=False).returncode == 3


def test_names_are_checked(lab: Lab) -> None:
    with pytest.raises(ValueError, match="not a node name"):
        lab.add("../x", "debian12")
    with pytest.raises(KeyError, match="no image 'el7'"):
        lab.add("x", "el7")


def test_el_has_no_traces_of_debian(el_web_node: Node) -> None:
    assert el_web_node.run("getent passwd www-data || getent group sudo", check=False).returncode != 0
    owners = el_web_node.output("stat -c '%U:%G' /var/lib/mysql /var/lib/pgsql/data /var/lib/redis")
    assert owners.split() == ["mysql:mysql", "postgres:postgres", "redis:redis"]
    assert el_web_node.output("systemctl is-enabled sshd crond").split() == ["enabled", "enabled"]
    assert el_web_node.run("systemctl cat ssh", check=False).returncode != 0
    assert el_web_node.run("command -v apt-get dpkg", check=False).returncode != 0


def test_a_new_user_logs_in_and_becomes_root(node: Node) -> None:
    node.run("useradd -m -s /bin/bash panel && install -d -o panel -m 700 /home/panel/.ssh")
    node.run("install -o panel -m 600 /root/.ssh/authorized_keys /home/panel/.ssh/")
    node.write("/etc/sudoers.d/50-panel", "panel ALL=(root) NOPASSWD: ALL\n", mode=0o440)
    assert node.ssh("sudo -n id -un", "panel").stdout == "root\n"
