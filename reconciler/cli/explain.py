"""`reconciler explain`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.desired.explain import Explanation


@click.command(name="explain")
@click.argument("path", metavar="KIND[.FIELD...]")
@options.output("text", "json")
def command(path: str, output: str) -> None:
    """Say what a field of a manifest means: its type, default and effect.

    \b
    reconciler explain site
    reconciler explain site.spec
    reconciler explain site.spec.phpVersion
    """
    from reconciler.desired.explain import explain  # noqa: PLC0415 - help and completion stay fast

    found = explain(path)
    if output == "json":
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    click.echo(found.path)
    click.echo(click.wrap_text(found.description, width=100, initial_indent="  ", subsequent_indent="  "))
    click.echo("")
    for name, value in _facts(found):
        click.echo(f"  {name + ':':<10} {value}")
    if found.children:
        click.echo("  fields:")
        width = max(len(_name(child)) for child in found.children)
        for child in found.children:
            word = (
                "  (required)" if child.required else f"  (default {child.default})" if child.default else ""
            )
            click.echo(f"    {_name(child):<{width}}  {child.type}{word}")


def _facts(found: Explanation) -> list[tuple[str, str]]:
    facts = [("type", found.type)]
    if "." in found.path:
        facts.append(("required", "yes" if found.required else "no"))
    facts += [("default", found.default), ("allowed", ", ".join(found.allowed)), ("form", found.rule)]
    return [(name, value) for name, value in facts if value]


def _name(found: Explanation) -> str:
    return found.path.rsplit(".", 1)[-1]
