"""`reconciler serve`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import options


@click.command(name="serve")
@options.state
@click.option(
    "--config",
    "given",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file [default: $RECONCILER_CONFIG, reconciler.yaml in the state directory or /etc/reconciler].",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    help="Serve this one local repository, without a settings file [default, where there is no such file: $RECONCILER_FLEET].",
)
@click.option("--branch", default="main", show_default=True, help="Branch to follow, with --fleet.")
@click.option(
    "--path", "subpath", default="", metavar="SUBDIR", help="Folder of the manifests, with --fleet."
)
@click.option("--listen", metavar="ADDRESS", help="Serve HTTP at HOST:PORT or unix:/path.")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="Form of the log.")
def command(
    state: Path,
    given: Path | None,
    fleet: Path | None,
    branch: str,
    subpath: str,
    listen: str | None,
    log_format: str | None,
) -> int:
    """Follow the fleets' repositories and keep their nodes converged, until told to stop.

    A push is planned and applied; drift is looked for; what fails is tried again. SIGTERM ends it in good order within ten
    seconds, SIGHUP reads the settings again. Exit codes: 0 told to stop, 1 fault, 5 another apply is running.
    """
    from reconciler.http.running import serve  # noqa: PLC0415 - help and completion stay fast

    return serve(state.absolute(), given, fleet, branch, subpath, listen, log_format)
