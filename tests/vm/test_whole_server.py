"""Releases, certificates, the host beneath the sites and a relay, all put there by the daemon under a kernel that enforces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.vm import Machine
from tests.e2e.applications import INDEX, Application, Hosting, hosted, source
from tests.nodes import loopback
from tests.vm import denials
from tests.vm.stage import SERVER, Stage
from tests.vm.world import PROVISIONED, World

WHO = "grep -ao 'system_u[a-z0-9_:,]*' /proc/self/attr/current"
BUILD = f"php -r 'echo 6*7;' > built; mkdir -p vendor/bin; {WHO} > who"
UPSTREAM = 3000
ANSWERING = f"systemd-run -q python3 -m http.server --bind 127.0.0.1 --directory /usr/share {UPSTREAM}"
# a neighbour of the machine, and who answers where nobody but some networks may come
OUTSIDE = """
set -e
ip netns add outside; ip link add inner type veth peer name outer netns outside
ip addr add 198.51.100.1/24 dev inner; ip link set inner up
ip netns exec outside ip addr add 198.51.100.2/24 dev outer; ip netns exec outside ip link set outer up
systemd-run -q python3 -m http.server --directory /usr/share 9100
for n in $(seq 100); do ss -Hltn sport = :9100 | grep -q . && exit; sleep 0.2; done; exit 1
"""
KNOCK = (
    "ip netns exec outside timeout 3 bash -c '</dev/tcp/198.51.100.1/{port}' 2>/dev/null "
    "&& echo answers || echo silence"
)
LOGIN = (
    "ssh -n -i /root/ada -p {port} -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
    "ada@127.0.0.1 'id -un; sudo -n id -u'"
)


@dataclass(frozen=True)
class Whole:
    """The converged machine. `marked` is where its audit log was before."""

    world: World
    marked: int

    @property
    def machine(self) -> Machine:
        return self.world.machine


@contextmanager
def _hosting(stage: Stage, folder: Path) -> Iterator[Hosting]:
    """Repositories that the daemon's settings know; nobody has a key yet."""
    settings = stage.settings.read_text()
    assert "git: {" in settings
    with hosted(folder) as hosting:
        known = f"git: {{knownHosts: {folder / 'known_hosts'}, "
        stage.settings.write_text(settings.replace("git: {", known))
        try:
            yield hosting
        finally:
            stage.settings.write_text(settings)


def _declare(world: World, folder: Path, app: Application) -> None:
    """Site one from git, site two with a self-signed certificate, a proxy, and the host."""
    stage, key = world.stage, folder / "ada"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    world.machine.run("umask 077; cat > /root/ada", stdin=key.read_text())
    public = key.with_suffix(".pub").read_text().strip()
    stage.fleet.put("User", "ada", email="ada@example.test", sshKeys=[public])
    stage.fleet.change(
        "Server",
        SERVER,
        timezone="Europe/Berlin",
        swap="64M",
        logins=[{"user": "ada", "sudo": True}],
        # the forwarded port is another one inside: sshd is to listen on both
        ssh={"ports": [22, world.machine.ssh_port], "passwordAuthentication": False, "permitRootLogin": True},
        firewall={"mode": "managed", "allow": [{"port": 9100, "from": ["203.0.113.0/24"]}]},
    )
    built = source(app, build=["sh build"], after=["cp version ../../storage/after"], shared=["storage"])
    stage.fleet.change("Site", "one", source=built)
    stage.fleet.change("Site", "two", tls={"mode": "selfSigned"})
    proxy = {"upstream": f"http://127.0.0.1:{UPSTREAM}"}
    stage.fleet.put("Site", "app", server=SERVER, domain="app.test", appType="proxy", proxy=proxy)


@contextmanager
def converged(world: World, folder: Path) -> Iterator[Whole]:
    """Everything is in place; the daemon has ended."""
    machine, stage = world.machine, world.stage
    machine.restore(PROVISIONED)
    marked = denials.mark(machine)
    machine.run(ANSWERING)
    with stage.put_back(), _hosting(stage, folder) as hosting:
        app = Application(hosting, "app")
        app.push(index_php=INDEX, version="one", storage__keep="", build=BUILD)
        stage.fleet.put("SSHKey", "deploy")
        stage.push("Have a deploy key")
        with stage.served(60):
            stage.wait(lambda: (stage.row("ssh_keys", name="deploy") or {}).get("public_key"), 300)
            hosting.let_in(stage)
            _declare(world, folder, app)
            stage.push("Declare all that a server can be")
            stage.reach()
        yield Whole(world, marked)


@pytest.fixture(scope="module")
def whole(built: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """The converged machine, shared by these tests."""
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    with converged(built, tmp_path_factory.mktemp("whole")) as made:
        yield made


def test_nothing_was_refused_on_the_way(whole: Whole) -> None:
    refused = {denials.refusal(one) for one in denials.since(whole.machine, whole.marked)}
    assert refused <= denials.BOOT
    assert whole.machine.output("getenforce") == "Enforcing"


def test_a_release_is_built_and_served_at_the_level_of_its_site(whole: Whole) -> None:
    machine, site = whole.machine, whole.world.sites["one"]
    home = site.home
    assert whole.world.stage.get("one") == (200, "one")
    found = machine.output(f"find {home}/releases {home}/shared {home}/current -printf '%Z\\n' | sort -u")
    assert {line.split(":", 2)[2] for line in found.splitlines()} == {
        f"{kind}:{site.level}" for kind in ("site_content_t", "laravel_app_rw_t")
    }
    assert machine.output(f"stat -L -c %C {home}/current/storage").split(":")[2] == "laravel_app_rw_t"
    assert machine.output(f"cat {home}/current/built") == "42"
    assert machine.output(f"cat {home}/current/who") == f"system_u:system_r:laravel_job_t:{site.level}"
    assert machine.output(f"cat {home}/storage/after") == "one"


def test_nginx_serves_a_certificate_and_relays_to_a_port(whole: Whole) -> None:
    machine = whole.machine
    page = (
        "curl -sk --resolve two.test:443:127.0.0.1 -o /dev/null -w '%{http_code}' https://two.test/probe.php"
    )
    assert machine.output(page) == "200"
    shown = "openssl s_client -connect 127.0.0.1:443 -servername two.test </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
    assert "DNS:two.test" in machine.output(shown)
    labels = machine.output("find /etc/panel/tls -type f -printf '%Z\\n' | sort -u").splitlines()
    assert [label.split(":")[2] for label in labels] == ["laravel_tls_t"]
    status, listing = whole.world.stage.get("app")
    assert (status, "nginx/" in listing) == (200, True)
    assert machine.output("getsebool panel_can_relay").endswith("--> on")


def test_the_host_is_as_declared(whole: Whole) -> None:
    machine = whole.machine
    assert machine.output("swapon --noheadings --show=NAME,SIZE").split() == ["/var/lib/panel-swap", "64M"]
    assert machine.output("date +%Z") in ("CET", "CEST")
    assert "passwordauthentication no" in machine.output("sshd -T").splitlines()
    assert f" {machine.ssh_port}" in machine.output("semanage port -l -C | grep ssh_port_t")
    for port in (22, machine.ssh_port):
        assert machine.output(LOGIN.format(port=port)).split() == ["ada", "0"]


def test_the_firewall_is_loaded_by_systemd_and_lets_in_what_is_declared(whole: Whole) -> None:
    machine = whole.machine
    machine.run(OUTSIDE)
    assert machine.output("systemctl is-active panel-firewall") == "active"
    assert machine.output("stat -c %C /etc/panel/firewall.nft").split(":")[2] == "laravel_etc_t"
    rules = machine.output("nft list table inet panel")
    assert "203.0.113.0/24" in rules
    assert machine.output(KNOCK.format(port=80)) == "answers"
    assert machine.output(KNOCK.format(port=9100)) == "silence"
    machine.run("systemctl stop panel-firewall")
    assert machine.output(KNOCK.format(port=9100)) == "answers", (
        "else something else than the rules was silent"
    )
    machine.run("systemctl start panel-firewall")
    assert machine.output("nft list table inet panel") == rules
    assert machine.run("systemctl is-failed panel-firewall", check=False).returncode != 0


def test_a_site_reads_neither_anothers_release_nor_a_key(whole: Whole) -> None:
    machine, world = whole.machine, whole.world
    machine.run(
        "chmod 0777 /home/web1 /home/web1/releases; chmod -R 0777 /etc/panel/tls; chmod 0755 /etc/panel"
    )
    task = "cat /home/web1/current/version; cat /etc/panel/tls/two/*; cat ../storage/secret"
    world.place("two", "public_html/task.sh", f"exec 2>&1; {task}")

    def heard() -> list[str]:
        machine.run("rm -f /home/web2/logs/task; systemctl start panel-cron-two_task.service", check=False)
        return machine.output("cat /home/web2/logs/task").splitlines()

    marked = denials.mark(machine)
    said = heard()
    assert sum("ermission denied" in line for line in said) == 2
    assert said[-1] == "secret of two"
    refused = {denials.refusal(one)[:3] for one in denials.since(machine, marked)}
    assert ("laravel_job_t", "site_content_t", "dir") in refused
    assert {one[1] for one in refused} <= {"site_content_t", "laravel_etc_t", "laravel_tls_t"}

    machine.run("chcon -R -l s0 /home/web1")
    said = heard()
    assert said[0].startswith("one"), "else something else than the level has refused it"
    assert sum("ermission denied" in line for line in said) == 1
