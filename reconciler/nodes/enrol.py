"""Making a server manageable: the set-up script, run once over the operator's own access, and the proof that it worked."""

from __future__ import annotations

import base64
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2

from reconciler.errors import AccessDenied, AgentFault, NodeFault, NotEnrolled
from reconciler.kit import assets
from reconciler.kit.secret import Secret

from . import agentzip, keys
from .agentzip import AGENT_PATH, AgentProgram
from .answers import Facts
from .connection import Connection, Finished
from .conversation import Conversation
from .keys import KeyPair
from .target import PANEL_USER, Target

LOGIN_HOME = "/var/lib/panel-login"
"""Home of the login user; owned by root."""

SETUP_WITHIN = 600.0
"""Seconds for the script: it may have to install Python and sudo."""


@dataclass(frozen=True)
class Enrolled:
    """A server that the panel user can manage. `host_keys` are those that were verified; `log` is the script's report,
    `bundle` the digest of what an agent of before kept, or empty."""

    host_keys: tuple[str, ...]
    facts: Facts
    agent: str
    log: str
    bundle: str = ""


def render_setup_script(public_key: str, program: AgentProgram | None = None) -> str:
    """The POSIX sh script to run as root on the server: `reconciler servers setup-script web1 | ssh root@web1 sh`.

    `public_key` is the daemon's for this server. The script may be run again. Raises SettingsFault for an unusable key.
    """
    program = program or agentzip.build()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets.folder("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - shell, not HTML: every value passes the filter `quote`
    )
    environment.filters["quote"] = shlex.quote
    return environment.get_template("setup/enrol.sh.j2").render(
        user=PANEL_USER,
        home=LOGIN_HOME,
        agent_path=AGENT_PATH,
        agent_sha256=program.sha256,
        agent_base64=textwrap.fill(base64.b64encode(program.data).decode("ascii"), 76),
        public_key=keys.canonical(public_key, comment="reconciler"),
    )


async def enrol(
    operator: Target,
    panel: KeyPair,
    *,
    identities: Sequence[Secret] = (),
    program: AgentProgram | None = None,
) -> Enrolled:
    """Runs the set-up script over the operator's login and proves that the panel user can talk to the agent.

    `operator.user` is root or may use sudo without a password; `operator.private_key`, then `identities`, are tried.
    `operator.host_keys` are the keys that a person accepted (`hostkeys.scan`). Safe to run again.
    Raises what `Connection.open` and `Conversation` raise, AccessDenied when sudo wants a password, and NotEnrolled with the
    script's message when it stopped.
    """
    program = program or agentzip.build()
    script = render_setup_script(panel.public, program).encode()
    shell = "sh" if operator.user == "root" else "LC_ALL=C sudo -n sh"
    async with await Connection.open(operator, identities=identities) as connection:
        done = await connection.run(shell, stdin=script, within=SETUP_WITHIN)
    if done.exit_status != 0:
        raise _stopped(operator, done)
    target = replace(operator, user=PANEL_USER, private_key=panel.private)
    async with await Connection.open(target) as connection, await Conversation.open(connection) as agent:
        hello = await agent.hello()
    if hello.agent != program.sha256:
        raise AgentFault(
            operator.server,
            f"the agent that answers is {hello.agent[:12]}, installed was {program.sha256[:12]}",
            hint=f"look which file sudo starts for {AGENT_PATH} on the node",
        )
    return Enrolled(operator.host_keys, hello.facts, hello.agent, done.stdout.text, hello.bundle)


def _stopped(operator: Target, done: Finished) -> NodeFault:
    said = done.stderr.text.strip()
    if operator.user != "root" and "sudo:" in said and "reconciler set-up:" not in said:
        return AccessDenied(
            operator.server,
            f"sudo refused user {operator.user}: {said[-300:]}",
            hint="enrol as root, or pipe the output of `servers setup-script` to `sudo sh` on the server",
        )
    return NotEnrolled(
        operator.server,
        f"the set-up stopped with status {done.exit_status}: {said[-600:] or 'it said nothing'}",
        hint="correct what it names and enrol again; it may be repeated",
    )
