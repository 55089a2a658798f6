"""`reconciler import`: manifests of what is on a node that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.settings import Settings
    from reconciler.desired.fleet import Fleet
    from reconciler.importing import Import, Wish
    from reconciler.store import Store


@click.group(name="import")
def command() -> None:
    """Write manifests of what is on a node."""


@command.command(name="server")
@click.argument("name")
@click.option("--address", help="IP address of a node that is not enrolled; it is asked over your own login.")
@click.option("--port", default=22, show_default=True, type=click.IntRange(1, 65535), help="Its SSH port.")
@click.option("--user", default="root", show_default=True, help="Your login: root, or one that may use sudo.")
@click.option(
    "--identity",
    "identities",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your private key for that login; may be repeated (default: those of ~/.ssh).",
)
@click.option(
    "--accept-host-key", is_flag=True, help="Trust the host key that the node shows without asking."
)
@click.option(
    "--ssh-key", help="Name of the SSHKey for the new Server (default: the fleet's only one, or `fleet`)."
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where manifests are written (default: the fleet). No file is ever overwritten.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the manifests and write nothing, neither files nor state."
)
@options.fleet
@options.fleet_name
@options.state
def server(  # noqa: PLR0913, PLR0917 - one option each
    name: str,
    address: str | None,
    port: int,
    user: str,
    identities: tuple[Path, ...],
    ssh_key: str | None,
    output_dir: Path | None,
    fleet: Path,
    subpath: str,
    fleet_name: str,
    state: Path,
    *,
    accept_host_key: bool,
    dry_run: bool,
) -> int:
    """Read the node of server NAME and write manifests of its sites and databases, and a report of what is left.

    Nothing on the node is changed. A node that is enrolled is asked through its agent; with --address it is asked over your
    own login, and nothing stays on it. Of a server that this state has applied before, the manifests come from the record.
    """
    from reconciler.app import enrolling, importing  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.desired.kinds import Kind  # noqa: PLC0415
    from reconciler.importing import Wish  # noqa: PLC0415
    from reconciler.nodes import keys  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath, name=fleet_name)
    here = importing.here(settings)
    folder = output_dir or fleet / subpath
    key = ssh_key or importing.only_key(here.fleet)
    if address is not None:
        wish = importing.wish(name, address, port, key)
        files = identities or keys.default_identities(Path.home())

        def accept(lines: Sequence[str]) -> bool:
            click.echo(f"{address} shows these host keys:", err=True)
            for line in lines:
                click.echo(f"  {line}", err=True)
            return accept_host_key or click.confirm("Are they the node's?", err=True)

        found = importing.stranger(wish, enrolling.Operator(user, tuple(files)), accept)
        if found is None:
            click.echo("Nothing was read.")
            return 1
        _finish(importing.make(found, wish, here), folder, dry_run=dry_run)
        return 0
    with open_state(settings.state) as store:
        made = importing.of_record(store, settings, name, here.fleet)
        if made is not None:
            _finish(importing.checked(made, here), folder, dry_run=dry_run)
            return 0
        manifest = importing.declared(store, here.fleet, name)
        if manifest is None:
            known = [key.name for key in here.fleet.entries if key.kind is Kind.SERVER]
            raise importing.unknown(name, known)
        found = importing.enrolled(store, manifest)
        spec = manifest.spec
        wish = Wish(name, spec.address, spec.port, spec.ssh_key)
        _enrolled(
            store, settings, importing.make(found, wish, here), here.fleet, wish, folder, dry_run=dry_run
        )
    return 0


def _enrolled(
    store: Store, settings: Settings, made: Import, known: Fleet, wish: Wish, folder: Path, *, dry_run: bool
) -> None:
    from reconciler.app import importing  # noqa: PLC0415

    _finish(made, folder, dry_run=dry_run)
    if dry_run:
        return
    recorded = importing.record(store, settings, made, wish.name, known)
    if recorded:
        click.echo(f"Recorded as found on the node: {', '.join(recorded)}")


def _finish(made: Import, folder: Path, *, dry_run: bool) -> None:
    """Write the manifests, or print them without what is sensitive, and report."""
    from reconciler.app import importing  # noqa: PLC0415
    from reconciler.kit.text import count  # noqa: PLC0415

    if dry_run:
        for draft in made.drafts:
            click.echo(f"---\n# {draft.file}\n{importing.shown(draft)}", nl=False)
    else:
        written = importing.write(made, folder)
        for path in written.new:
            click.echo(f"wrote {path}")
        for path in written.kept:
            click.echo(f"left {path} as it is: it was there before")
    if made.notes:
        click.echo("\nReport:", err=dry_run)
        for note in made.notes:
            click.echo(f"  {note}", err=dry_run)
    sums = f"{count(len(made.drafts), 'manifest')}, {count(len(made.notes), 'note')}."
    click.echo(f"\n{sums} Nothing on the node was changed.", err=dry_run)
