"""`reconciler servers`: enrol nodes and manage the keys that open them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.cli import options


@click.group(name="servers")
def command() -> None:
    """Enrol nodes and manage their keys."""


@command.command(name="add-key")
@click.argument("server")
@click.option(
    "--private-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Private half of the server's SSHKey; generated when absent and the manifest declares no public half.",
)
@click.option(
    "--host-key",
    "host_keys",
    multiple=True,
    metavar="KEY",
    help="Pin this host key of the node; may be repeated.",
)
@options.fleet
@options.state
def add_key(
    server: str, private_key: Path | None, host_keys: tuple[str, ...], fleet: Path, subpath: str, state: Path
) -> None:
    """Store the key that the daemon logs in to SERVER with, encrypted, and print its public half."""
    from reconciler.app import enrolling, reconciling  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.nodes import keys  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath)
    manifest, declared = enrolling.server_of(settings, server)
    given = keys.read_identity(private_key) if private_key else None
    with open_state(settings.state) as store:
        key = enrolling.add_key(store, declared, given)
        if host_keys:
            enrolling.pin(store, manifest, [keys.canonical(line) for line in host_keys])
        reconciling.have_seen(store, settings.state, f"Server/{server}")
    word = "generated" if key.generated else "stored"
    click.echo(f"SSHKey/{key.name} ({key.fingerprint}) is {word}. Its public half:", err=True)
    click.echo(key.public)


@command.command(name="enroll")
@click.argument("server")
@click.option(
    "--user",
    default="root",
    show_default=True,
    help="Your login on the node: root, or one that may use sudo.",
)
@click.option(
    "--identity",
    "identities",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your private key for that login; may be repeated (default: those of ~/.ssh).",
)
@click.option("--accept-host-key", is_flag=True, help="Pin the host key that the node shows without asking.")
@options.fleet
@options.state
def enroll(
    server: str,
    user: str,
    identities: tuple[Path, ...],
    *,
    accept_host_key: bool,
    fleet: Path,
    subpath: str,
    state: Path,
) -> int:
    """Make the node of SERVER manageable, over your own access to it.

    Creates the login user `panel`, who may run the agent with sudo and nothing else, installs the agent, and pins the
    node's host key. May be repeated. By hand: reconciler servers setup-script SERVER | ssh root@NODE sh
    """
    from reconciler.app import enrolling, importing, reconciling  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.nodes import keys  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath)
    manifest, declared = enrolling.server_of(settings, server)
    files = identities or keys.default_identities(Path.home())

    def accept(lines: Sequence[str]) -> bool:
        click.echo(f"{manifest.spec.address} shows these host keys:")
        for line in lines:
            click.echo(f"  {line}")
        return accept_host_key or click.confirm("Are they the node's, and shall they be pinned?")

    with open_state(settings.state) as store:
        done = enrolling.enroll(store, manifest, declared, enrolling.Operator(user, tuple(files)), accept)
        if done is not None:
            reconciling.have_seen(store, settings.state, f"Server/{server}")
        forgotten = done is not None and bool(done.bundle) and importing.lost(store, server)
    if done is None:
        click.echo("Nothing was changed.")
        return 1
    facts = done.facts
    click.echo(
        f"{server} is enrolled: {facts.os_id} {facts.os_version}, {facts.arch}, SELinux {facts.selinux}."
    )
    if forgotten:
        click.echo(
            f"It was managed before, and this state knows nothing of that. Run `reconciler import server {server}` before the "
            "first apply: sites would else be given each other's system users."
        )
    return 0


@command.command(name="setup-script")
@click.argument("server")
@options.fleet
@options.state
def setup_script(server: str, fleet: Path, subpath: str, state: Path) -> None:
    """Print the script that makes the node of SERVER manageable, to be run there as root.

    Afterwards pin its host key: reconciler servers add-key SERVER --host-key "$(ssh-keyscan -t ed25519 NODE)"
    """
    from reconciler.app import enrolling  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath)
    _, declared = enrolling.server_of(settings, server)
    with open_state(settings.state) as store:
        enrolling.add_key(store, declared, None)
        click.echo(enrolling.setup_script(store, declared), nl=False)


@command.command(name="list")
@options.state
@options.output("text", "json")
@options.no_color
def listing(state: Path, output: str, *, no_color: bool) -> None:
    """List the recorded servers: where they are, whether they are enrolled, what they run."""
    import json  # noqa: PLC0415

    from reconciler.cli import tables  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415
    from reconciler.store.queries import servers  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        rows = store.read(servers.all)
    if output == "json":
        value = [
            {
                "name": row.name,
                "address": row.ip_address,
                "port": row.port,
                "os": row.os_version,
                "status": row.status,
                "enrolled": bool(row.host_keys),
                "agent": row.agent_digest,
            }
            for row in rows
        ]
        click.echo(json.dumps(value, indent=2))
        return
    headings = ("SERVER", "ADDRESS", "OS", "STATE", "ENROLLED", "AGENT")
    tables.show(
        headings,
        [
            (
                row.name,
                f"{row.ip_address}:{row.port}",
                row.os_version,
                row.status,
                "yes" if row.host_keys else "no",
                (row.agent_digest or "")[:12],
            )
            for row in rows
        ],
        no_color=no_color,
    )


@command.command(name="forget")
@click.argument("server")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.state
def forget(server: str, *, yes: bool, state: Path) -> int:
    """Give SERVER up, whose node is gone for good: remove it and what is on it from the record.

    The node is not touched. The passwords of its databases go with the record. What the manifests still declare there
    is created anew by the next apply.
    """
    from reconciler.app import forgetting  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    def confirm(addresses: Sequence[str]) -> bool:
        click.echo("No longer managed: " + (", ".join(addresses) or f"Server/{server}"))
        return yes or click.confirm("Forget them, with the passwords of the databases?")

    with open_state(state.absolute()) as store:
        gone = forgetting.forget(Settings(state.absolute(), Path()), store, server, confirm)
    click.echo(
        "Nothing was changed." if gone is None else f"{server} is forgotten. Its node was not touched."
    )
    return 1 if gone is None else 0
