"""`reconciler completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  reconciler completion bash > /etc/bash_completion.d/reconciler
    zsh:   reconciler completion zsh > "${fpath[1]}/_reconciler"
    fish:  reconciler completion fish > ~/.config/fish/completions/reconciler.fish
    """
    from reconciler.cli.main import program  # noqa: PLC0415 - the group imports this module

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(program, {}, "reconciler", "_RECONCILER_COMPLETE").source())
