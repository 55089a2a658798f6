"""The host fields of a Server on real nodes of both families: what shuts the daemon out is undone by the node itself, and
what is declared holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncssh
import pytest

from lab import Lab, Node
from lab.host import LabError
from reconciler import blueprint
from reconciler.blueprint.model import Section, Step
from reconciler.converge import session
from reconciler.converge.assemble import NodeState
from reconciler.converge.executor import Limits
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import MODELS, Kind, Server
from reconciler.desired.problems import Source
from reconciler.errors import NodeUnreachable
from reconciler.kit import ids
from reconciler.nodes import agentzip, keys
from reconciler.nodes.answers import Outcome
from reconciler.nodes.connection import Connection, Keepalive
from reconciler.nodes.enrol import enrol
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.node import Manner
from reconciler.nodes.pool import Pool
from tests.e2e.harness import boot

from .labs import operator, panel_target

MANNER = Manner(agentzip.build(), keepalive=Keepalive(0.5, 3), first_wait=0.1, longest_wait=0.5)
OS = {"el9-web": "alma_9", "debian12-web": "debian_12"}
SHORT, LONG = 6, 300
ADA = keys.generate()
UNDONE = "was undone by the node because it was not confirmed"


@dataclass
class Host:
    """A node, and what was last applied to it."""

    node: Node
    panel: KeyPair
    steps: tuple[Step, ...] = ()

    @property
    def el(self) -> bool:
        return self.node.image.name.startswith("el")

    def state(self, spec: dict[str, Any], people: dict[str, KeyPair]) -> NodeState:
        """The bundle that brings the node from what it has to a server with these fields."""
        declared = {
            "address": self.node.ip,
            "os": OS[self.node.image.name],
            "sshKey": "fleet",
            "selinux": {"mode": "disabled"},
            **spec,
        }
        manifests = [("Server", "web1", declared)]
        for name, pair in people.items():
            known = {"email": f"{name}@example.test", "sshKeys": [pair.public]}
            manifests.append(("User", name, known))
        entries = {}
        for kind, name, values in manifests:
            document = {
                "apiVersion": "reconciler/v1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": values,
            }
            found = MODELS[Kind(kind)].model_validate_json(json.dumps(document))
            entries[Key(Kind(kind), name)] = Entry(found, Origin(Source("fleet.yaml")))  # type: ignore[arg-type]
        fleet = Fleet(entries)
        server = fleet.server("web1")
        assert isinstance(server, Server)
        wanted = blueprint.sections(server, fleet, {}, blueprint.masked)[0]
        undo = blueprint.removals(self.steps, frozenset(step.key for step in wanted.steps))
        bundle = blueprint.bundle(
            server, fleet, {}, blueprint.masked, removals=[Section(server.address, tuple(undo))]
        )
        self.wanted = wanted.steps
        return NodeState(server, bundle)

    async def apply(
        self,
        spec: dict[str, Any],
        confirm_within: int = LONG,
        people: dict[str, KeyPair] | None = None,
        *,
        between: Callable[[], None] | None = None,
        apply_id: str = "",
    ) -> Outcome:
        """What the daemon does; `between` happens after the apply and before the confirmation."""
        state = self.state(spec, people or {})
        limits = Limits(apply_within=300, confirm_within=confirm_within)

        async def ignore(event: object) -> None:
            return None

        async with Pool(manner=MANNER) as pool, pool.node(panel_target(self.node, self.panel)) as managed:
            if between is None:
                outcome = await session.apply(
                    managed,
                    state,
                    ["Server/web1"],
                    apply_id=ids.new(),
                    fence=1,
                    on_event=ignore,
                    patience=limits,
                )
            else:
                digest = await managed.send_bundle(state.bundle.to_json())
                bodies = state.bundle.bodies()
                for want in (await managed.prepare(digest)).wants:
                    await managed.send_blob(bodies[want].content or b"")
                outcome = await managed.apply(
                    apply_id, digest, None, 1, within=300, confirm_within=confirm_within
                )
                between()
        if outcome.sections["Server/web1"].state in ("succeeded", "unchanged"):
            self.steps = self.wanted
        return outcome

    async def in_sync(self, spec: dict[str, Any]) -> None:
        """Nothing differs from what these fields declare."""
        state = self.state(spec, {})
        async with Pool(manner=MANNER) as pool, pool.node(panel_target(self.node, self.panel)) as managed:
            digest = await managed.send_bundle(state.bundle.to_json())
            differences = (await managed.prepare(digest)).differences
            assert differences == (), self.node.run("cat /etc/firewalld/zones/panel.xml", check=False).stdout

    async def done(self, spec: dict[str, Any], **more: Any) -> None:
        outcome = await self.apply(spec, **more)
        assert outcome.state == "succeeded", outcome.sections

    async def reachable(self) -> bool:
        """Whether a new connection gets in."""
        try:
            target = panel_target(self.node, self.panel)
            async with asyncio.timeout(3), await Connection.open(target):
                return True
        except (NodeUnreachable, TimeoutError):
            return False

    async def status(self, apply_id: str) -> Outcome:
        async with Pool(manner=MANNER) as pool, pool.node(panel_target(self.node, self.panel)) as managed:
            return await managed.status(apply_id, within=60)

    async def open(self, port: int) -> bool:
        """Whether somebody answers on a port."""
        try:
            async with asyncio.timeout(2):
                _, writer = await asyncio.open_connection(self.node.ip, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def rules(self) -> str:
        """The firewall as the kernel has it."""
        return self.node.run("nft list ruleset").stdout

    def boots(self) -> bool:
        """Whether it is up again: ssh may be shut."""
        try:
            return self.node.run("systemctl is-active multi-user.target", check=False).returncode == 0
        except LabError:
            return False

    def waits(self) -> bool:
        return self.node.run("test -e /var/lib/panel/unconfirmed.json", check=False).returncode == 0


async def until(true: Callable[[], Any], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module", params=["el9-web", "debian12-web"])
def host(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Host]:
    """A node that is enrolled and has a managed firewall that lets the daemon in."""
    (node,) = boot(lab, host=request.param).values()
    try:
        panel = keys.generate()
        asyncio.run(enrol(operator(node), panel))
        made = Host(node, panel)
        yield made
    finally:
        node.remove()


MANAGED = {"firewall": {"mode": "managed", "allow": [{"port": 9100, "from": ["203.0.113.0/24"]}]}}
SHUT = {"firewall": {"mode": "managed", "sshFrom": ["203.0.113.0/24"]}}


async def test_a_firewall_lets_in_what_is_declared_and_nothing_else(host: Host) -> None:
    host.node.run("apt-get install -qq nftables || dnf -q -y install nftables")
    host.node.run("nft -f -", stdin="table inet theirs { chain c {\n}\n}\n")
    before = host.node.run("cat /etc/firewalld/firewalld.conf", check=False).stdout
    await host.done(MANAGED)
    assert not host.waits()
    assert await host.reachable()
    host.node.run("systemd-run --unit=open9 /usr/bin/python3 -m http.server 9999")
    assert await host.open(80)
    assert not await host.open(9999)
    assert "203.0.113.0/24" in host.rules()
    assert "theirs" in host.rules()
    # in sync, and seen when somebody takes it away
    await host.in_sync(MANAGED)
    stop = "systemctl stop firewalld" if host.el else "nft delete table inet panel"
    host.node.run(stop)
    assert (await host.apply(MANAGED)).sections["Server/web1"].changed == 1
    assert "203.0.113.0/24" in host.rules()
    # off: what the node had before
    await host.done({})
    assert "203.0.113.0/24" not in host.rules()
    assert (
        host.node.run("cat /etc/firewalld/firewalld.conf", check=False).stdout.count("DefaultZone=panel") == 0
    )
    if before:
        assert host.node.run("systemctl is-active firewalld", check=False).stdout.strip() != "active"


async def test_a_firewall_that_shuts_the_daemon_out_is_undone_by_the_node(host: Host) -> None:
    await host.done(MANAGED)
    outcome = await host.apply(SHUT, SHORT)
    assert (outcome.state, outcome.confirm) == ("failed", "undone")
    assert outcome.sections["Server/web1"].message == UNDONE
    assert await host.reachable()
    assert await host.open(80)
    assert "203.0.113.0/24" in host.rules()
    assert not host.waits()
    await host.in_sync(MANAGED)
    units = host.node.run("ls /etc/systemd/system", check=False).stdout
    assert "panel-unconfirmed" not in units


async def test_a_daemon_that_died_finds_its_change_undone(host: Host) -> None:
    apply_id = ids.new()
    outcome = await host.apply(SHUT, SHORT, apply_id=apply_id, between=lambda: None)
    assert outcome.confirm == "wanted"
    assert not await host.reachable()
    await until(lambda: not host.waits())
    assert await host.reachable()
    late = await host.status(apply_id)
    assert (late.state, late.confirm) == ("failed", "undone")


async def test_a_reboot_in_between_does_not_save_the_change(host: Host) -> None:
    await host.done(MANAGED)
    apply_id = ids.new()
    outcome = await host.apply(SHUT, 20, apply_id=apply_id, between=host.node.crash)
    assert outcome.confirm == "wanted"
    host.node.start()
    await until(host.boots)
    assert not await host.reachable()
    await until(lambda: not host.waits(), 90)
    assert await host.reachable()
    assert (await host.status(apply_id)).confirm == "undone"
    assert "203.0.113.0/24" in host.rules()


async def test_a_later_daemon_confirms_what_an_earlier_one_left_and_goes_on(host: Host) -> None:
    apply_id = ids.new()
    other = {"firewall": {"mode": "managed", "allow": [{"port": 9200, "protocol": "udp"}]}}
    outcome = await host.apply(other, LONG, apply_id=apply_id, between=lambda: None)
    assert outcome.confirm == "wanted"
    await host.done(MANAGED)
    assert (await host.status(apply_id)).confirm == "given"
    assert not host.waits()


async def test_sshd_takes_the_settings_and_gives_them_back(host: Host) -> None:
    before = host.node.run("sshd -T").stdout
    strict = {
        **MANAGED,
        "ssh": {
            "passwordAuthentication": False,
            "permitRootLogin": False,
            "allowUsers": ["backup"],
            "ports": [22, 2222],
        },
    }
    await host.done(strict)
    now = host.node.run("sshd -T").stdout
    for line in ("passwordauthentication no", "permitrootlogin no", "port 2222", "allowusers panel"):
        assert line in now
    assert await host.reachable()
    # the new port is open in the firewall, and sshd listens there: now the daemon may move
    assert await host.open(2222)
    await host.done(MANAGED)
    assert host.node.run("sshd -T").stdout == before


async def test_sshd_that_leaves_the_daemons_port_is_put_back(host: Host) -> None:
    """Validation refuses this manifest; a node behind a forwarded port could come to it all the same."""
    wrong = {**MANAGED, "ssh": {"ports": [2222]}}
    outcome = await host.apply(wrong, SHORT)
    assert (outcome.confirm, outcome.sections["Server/web1"].message) == ("undone", UNDONE)
    assert await host.reachable()
    assert "port 22\n" in host.node.run("sshd -T").stdout


async def test_people_log_in_with_their_keys_and_leave_again(host: Host) -> None:
    node = host.node
    node.run("useradd -m -c 'Somebody else' ben")
    people = {"ada": ADA}
    await host.done({**MANAGED, "logins": [{"user": "ada", "sudo": True}]}, people=people)

    async def login(command: str) -> str:
        async with asyncssh.connect(
            node.ip,
            username="ada",
            client_keys=[asyncssh.import_private_key(ADA.private.reveal())],
            known_hosts=None,
            config=None,
            agent_path=None,
        ) as connection:
            return str((await connection.run(command, check=True)).stdout).strip()

    assert await login("id -un") == "ada"
    assert await login("sudo -n id -un") == "root"
    await host.done({**MANAGED, "logins": [{"user": "ada"}]}, people=people)
    assert await login("sudo -n true || echo refused") == "refused"
    # an account that is not ours is left alone, and the rest of the server goes on
    outcome = await host.apply({**MANAGED, "logins": [{"user": "ben"}]}, people={"ben": ADA})
    assert "not ours" in outcome.sections["Server/web1"].message
    assert "Somebody else" in node.run("getent passwd ben").stdout
    await host.done(MANAGED)
    assert node.run("getent passwd ada", check=False).stdout == ""
    assert "ada-" in node.run("ls /var/lib/panel/archive").stdout
    assert "Somebody else" in node.run("getent passwd ben").stdout
    node.run("userdel -r ben")


async def test_clock_updates_and_fail2ban_hold_and_go(host: Host) -> None:
    node = host.node
    zone = node.run("readlink /etc/localtime", check=False).stdout.partition("zoneinfo/")[2] or "UTC\n"
    spec = {**MANAGED, "timezone": "Asia/Tokyo", "updates": "security", "fail2ban": True}
    await host.done(spec)
    assert node.run("date +%Z").stdout.strip() == "JST"
    if host.el:
        assert node.run("systemctl is-enabled dnf-automatic.timer").stdout.strip() == "enabled"
        assert "/etc/panel/dnf-automatic.conf" in node.run("systemctl cat dnf-automatic.service").stdout
    else:
        dumped = node.run("apt-config dump").stdout
        assert 'Unattended-Upgrade::Automatic-Reboot "false"' in dumped
        assert "label=Debian-Security" in dumped
        assert 'origin=Debian,codename=${distro_codename},label=Debian"' not in dumped
    await until(lambda: "sshd" in node.run("fail2ban-client status", check=False).stdout)
    node.run("fail2ban-client set sshd banip 203.0.113.99")
    await until(lambda: "203.0.113.99" in host.rules())
    await host.in_sync(spec)
    await host.done(MANAGED)
    assert node.run("readlink /etc/localtime", check=False).stdout.partition("zoneinfo/")[2] == zone
    assert node.run("systemctl is-active fail2ban", check=False).stdout.strip() == "inactive"
    if host.el:
        assert node.run("systemctl is-enabled dnf-automatic.timer", check=False).stdout.strip() == "disabled"


async def test_a_swap_file_that_cannot_be_is_told_and_costs_nothing_else(host: Host) -> None:
    """A container lets nobody swap; what is tested here is that nothing of it stays, and that sites are not held up."""
    huge = await host.apply({**MANAGED, "swap": "200000G", "timezone": "Europe/Berlin"})
    assert "would leave less than 1 GiB" in huge.sections["Server/web1"].message
    assert host.node.run("ls /var/lib/panel-swap", check=False).returncode != 0
    small = await host.apply({**MANAGED, "swap": "64M"})
    if small.state == "failed":
        assert host.node.run("ls /var/lib/panel-swap", check=False).returncode != 0
        assert "swap" in small.sections["Server/web1"].message
    assert await host.reachable()
    assert await host.open(80)
