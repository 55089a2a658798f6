"""`reconciler secrets recipient` and `reconciler secrets encrypt`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reconciler.cli import options


@click.group(name="secrets")
def command() -> None:
    """Encrypt values for manifests, so that the repository never has them in clear."""


@command.command(name="recipient")
@options.state
def recipient(state: Path) -> None:
    """Print the public key that values are encrypted for.

    It is no secret: put it into the fleet repository's README. The private one never leaves the state directory.
    """
    from reconciler.app import encrypting  # noqa: PLC0415 - help and completion stay fast

    click.echo(encrypting.recipient(state.absolute()))


@command.command(name="encrypt")
@options.state
@click.option(
    "-r",
    "--recipient",
    "others",
    multiple=True,
    metavar="KEY",
    help="Encrypt for this public key (age1…, or ssh-ed25519 …) too; may be repeated.",
)
def encrypt(state: Path, others: tuple[str, ...]) -> None:
    """Encrypt a value and print the text that stands behind `age: |` in a manifest.

    The value is read from standard input; a terminal asks for it and does not show it. The line end behind a single line
    is left out. On a machine without a state directory name the daemon's public key with --recipient.
    """
    from reconciler.app import encrypting  # noqa: PLC0415 - help and completion stay fast

    keys = encrypting.recipients(state.absolute(), others)
    if sys.stdin.isatty():
        data = click.prompt("Value", hide_input=True, err=True, default="", show_default=False).encode()
    else:
        data = sys.stdin.buffer.read(encrypting.MAX_BYTES + 1)
    text = encrypting.encrypted(encrypting.value(data), keys)
    click.echo(text, nl=False)
    click.echo(f"Encrypted for {', '.join(keys)}", err=True)
