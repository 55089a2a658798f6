"""Enrolment on real servers of both families."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab import Node
from reconciler.errors import AccessDenied, DeadlinePassed, NodeUnreachable, NotEnrolled
from reconciler.nodes import agentzip, hostkeys, keys
from reconciler.nodes.connection import Connection
from reconciler.nodes.conversation import Conversation
from reconciler.nodes.enrol import LOGIN_HOME, enrol, render_setup_script
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target

from .labs import operator, panel_target

AGENT = agentzip.AGENT_PATH


async def run_agent(target: Target) -> str:
    async with await Connection.open(target) as connection, await Conversation.open(connection) as agent:
        return (await agent.hello()).agent


async def refusal(target: Target, command: str) -> tuple[int, str]:
    async with await Connection.open(target) as connection:
        done = await connection.run(command, within=30)
        return done.exit_status, done.stderr.text


@pytest.fixture
def panel() -> KeyPair:
    return keys.generate()


async def test_enrolment_makes_a_server_manageable_and_may_be_repeated(node: Node, panel: KeyPair) -> None:
    first = await enrol(operator(node), panel)
    assert first.agent == agentzip.build().sha256
    assert first.facts.hostname == node.name
    assert first.facts.package_manager == ("dnf" if "el9" in node.image.name else "apt")
    assert keys.fingerprint(first.host_keys[0]) in first.log
    before = node.output(f"ls -l {AGENT} /etc/sudoers.d/panel-reconciler {LOGIN_HOME}/.ssh/authorized_keys")

    second = await enrol(operator(node), panel)
    assert "wrote" not in second.log
    assert "created" not in second.log
    after = node.output(f"ls -l {AGENT} /etc/sudoers.d/panel-reconciler {LOGIN_HOME}/.ssh/authorized_keys")
    assert after == before
    assert (second.host_keys, second.agent, second.facts) == (first.host_keys, first.agent, first.facts)

    async with Pool() as pool, pool.node(panel_target(node, panel)) as managed:
        assert (await managed.ready()).agent == first.agent


async def test_the_login_user_can_run_the_agent_and_nothing_else(node: Node, panel: KeyPair) -> None:
    await enrol(operator(node), panel)
    target = panel_target(node, panel)
    for command in (
        "sudo -n id",
        "sudo -n sh -c id",
        f"sudo -n {AGENT}",
        f"sudo -n {AGENT} version",
        f"sudo -n {AGENT} serve more",
        f"sudo -n -u nobody {AGENT} serve",
    ):
        status, said = await refusal(target, command)
        assert status == 1, command
        assert "sudo" in said or "Sorry" in said, command
    for command in (
        f"echo x >> {LOGIN_HOME}/.ssh/authorized_keys",
        f"touch {LOGIN_HOME}/x",
        "ls /var/lib/panel",
    ):
        assert (await refusal(target, f"LC_ALL=C {command}"))[0] != 0, command
    assert node.output("cat /etc/sudoers.d/panel-reconciler") == f"panel ALL=(root) NOPASSWD: {AGENT} serve"
    assert node.output(f"stat -c '%a %U %G' {AGENT} /etc/sudoers.d/panel-reconciler /var/lib/panel").split(
        "\n"
    ) == [
        "755 root root",
        "440 root root",
        "700 root root",
    ]
    assert node.output(f"cat {LOGIN_HOME}/.ssh/authorized_keys").startswith("restrict ssh-ed25519 ")
    assert node.output("getent shadow panel | cut -d: -f2") == "*"
    assert node.output("ls -A /etc/sudoers.d /usr/bin | grep panel-new || true") == ""


async def test_the_script_may_be_piped_by_hand(node: Node, panel: KeyPair) -> None:
    said = node.ssh("sh", stdin=render_setup_script(panel.public)).stdout
    assert "done: agent" in said
    assert await run_agent(panel_target(node, panel)) == agentzip.build().sha256


async def test_a_user_with_sudo_may_enrol(node: Node, panel: KeyPair) -> None:
    node.run("useradd -m -s /bin/sh helga && mkdir -m 700 /home/helga/.ssh")
    node.run("cp /root/.ssh/authorized_keys /home/helga/.ssh/ && chown -R helga: /home/helga/.ssh")
    helga = replace(operator(node), user="helga")
    with pytest.raises(AccessDenied, match="sudo refused user helga"):
        await enrol(helga, panel)
    assert node.run("getent passwd panel", check=False).returncode != 0
    node.run("echo 'helga ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/helga")
    assert (await enrol(helga, panel)).agent == agentzip.build().sha256


async def test_another_identity_of_the_operator_is_tried(node: Node, panel: KeyPair) -> None:
    known = operator(node)
    wrong = replace(known, private_key=keys.generate().private)
    with pytest.raises(AccessDenied, match="user root"):
        await enrol(wrong, panel)
    assert (await enrol(wrong, panel, identities=[known.private_key])).host_keys == known.host_keys


async def test_a_new_key_replaces_the_old_one(debian_node: Node, panel: KeyPair) -> None:
    await enrol(operator(debian_node), panel)
    fresh = keys.generate()
    await enrol(operator(debian_node), fresh)
    with pytest.raises(AccessDenied):
        await run_agent(panel_target(debian_node, panel))
    assert await run_agent(panel_target(debian_node, fresh))


async def test_what_was_damaged_is_put_right(node: Node, panel: KeyPair) -> None:
    await enrol(operator(node), panel)
    target = panel_target(node, panel)

    node.run("rm /etc/sudoers.d/panel-reconciler")
    with pytest.raises(AccessDenied, match="sudo refused the agent"):
        await run_agent(target)
    await enrol(operator(node), panel)

    node.run(f"rm {AGENT}")
    with pytest.raises(NotEnrolled):
        await run_agent(target)
    await enrol(operator(node), panel)

    node.run(
        f"echo broken > {AGENT}; chmod 600 {AGENT}; chmod 777 {LOGIN_HOME}; usermod -s /sbin/nologin panel"
    )
    await enrol(operator(node), panel)
    assert await run_agent(target) == agentzip.build().sha256


async def test_a_stranger_named_panel_is_left_alone(debian_node: Node, panel: KeyPair) -> None:
    debian_node.run("useradd -m -s /bin/bash panel")
    with pytest.raises(NotEnrolled, match="another user named panel") as caught:
        await enrol(operator(debian_node), panel)
    assert "/home/panel" in caught.value.message
    assert debian_node.output("getent passwd panel | cut -d: -f7") == "/bin/bash"
    assert debian_node.run(f"test -e {AGENT}", check=False).returncode != 0


async def test_sudo_is_installed_where_it_is_missing(node: Node, panel: KeyPair) -> None:
    # the lab's repositories have no sudo: a stand-in for the package manager puts the hidden one back
    tool = "/usr/bin/dnf" if "el9" in node.image.name else "/usr/bin/apt-get"
    node.run("mkdir /root/away && mv /usr/bin/sudo /usr/sbin/visudo /root/away/")
    node.run(f"rm -f {tool}")
    put_back = "mv /root/away/sudo /usr/bin/; mv /root/away/visudo /usr/sbin/"
    node.write(tool, f'#!/bin/sh\necho "$*" >> /root/asked\ncat >/dev/null\n{put_back}\n', mode=0o755)
    done = await enrol(operator(node), panel)
    assert "installing sudo" in done.log
    assert node.output("cat /root/asked") in {"-y -q install sudo", "-q -y install sudo"}


async def test_a_package_that_cannot_be_had_is_named(debian_node: Node, panel: KeyPair) -> None:
    debian_node.run("SUDO_FORCE_REMOVE=yes dpkg --purge sudo; rm -rf /etc/apt/sources.list*")
    with pytest.raises(NotEnrolled, match="cannot install sudo; install it by hand"):
        await enrol(operator(debian_node), panel)


async def test_a_server_that_is_shutting_down_is_tried_again_later(node: Node, panel: KeyPair) -> None:
    await enrol(operator(node), panel)
    node.run("echo 'System is going down' > /run/nologin")
    with pytest.raises(NodeUnreachable) as caught:
        await run_agent(panel_target(node, panel))
    assert caught.value.reaction == "retry"
    node.run("rm /run/nologin")
    assert await run_agent(panel_target(node, panel))


async def test_the_scanned_host_keys_are_those_of_the_server(node: Node) -> None:
    found = await hostkeys.scan(node.ip, 22)
    assert found == operator(node).host_keys


async def test_cancelling_a_command_of_the_panel_user_ends_it(node: Node, panel: KeyPair) -> None:
    await enrol(operator(node), panel)
    async with await Connection.open(panel_target(node, panel)) as connection:
        with pytest.raises(DeadlinePassed):
            await connection.run("sleep 4321; true", within=1)
        await connection.close()
    assert node.output("pgrep -f 'sleep 432[1]' || true") == ""
