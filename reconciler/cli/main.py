"""The program's entry: finds the verb, imports only that verb's module, turns faults into messages."""

from __future__ import annotations

import importlib
import keyword
import os
import sys

import click

from reconciler import __version__

_VERBS = {
    "init": "Make the state directory, its key and its database.",
    "validate": "Check the manifests of a folder.",
    "explain": "Say what a field of a manifest means.",
    "plan": "Show what an apply would do.",
    "apply": "Converge the fleet to the newest commit, or to a saved plan.",
    "serve": "Follow the fleet's repository and keep its nodes converged.",
    "drift": "Compare the nodes with what was applied.",
    "status": "Show every resource and its conditions.",
    "deployments": "List deployments, or show one.",
    "events": "Print what happened, and what happens.",
    "avc": "Show what SELinux refused on the servers.",
    "top": "Show how everything stands, live.",
    "wait": "Wait until resources have come to a condition.",
    "secrets": "Encrypt values for manifests.",
    "databases": "Give databases new passwords.",
    "import": "Write manifests of what is on a node.",
    "servers": "Enrol nodes and manage their keys.",
    "software": "Show what is installed on the servers.",
    "sites": "List the releases of a site, go back to one.",
    "source": "Show where each fleet's branch stands; accept a rewritten one.",
    "approve": "Let a plan pass that waits for a person.",
    "suspend": "Tell the daemon to leave something as it is.",
    "resume": "End a suspension.",
    "reconcile": "Tell the daemon to look at something now.",
    "cancel": "Stop what the daemon does to something.",
    "hook": "Check pushes on the server, and show what comes of them.",
    "completion": "Print the completion script for a shell.",
}


class Verbs(click.Group):
    """Imports a verb's module only when it is called: help and completion stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order a newcomer meets them."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, or None for an unknown word."""
        if cmd_name not in _VERBS:
            return None
        command = importlib.import_module(
            f"reconciler.cli.{cmd_name}_" if keyword.iskeyword(cmd_name) else f"reconciler.cli.{cmd_name}"
        ).command
        if not isinstance(command, click.Command):
            raise TypeError(f"reconciler.cli.{cmd_name} has no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion for a mistyped verb."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as fault:
            from reconciler.kit.text import did_you_mean  # noqa: PLC0415 - only on the way out

            hint = did_you_mean(args[0], _VERBS)
            raise click.UsageError(f"{fault.message} {hint}".strip(), ctx) from None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="reconciler")
def program() -> None:
    """Run fleets of PHP web servers from git.

    Manifests in a git repository declare servers, sites and databases; `plan` shows what would change, `apply`
    converges the nodes over SSH and records each step as a deployment.

    The fleet repository is the current folder, --fleet or $RECONCILER_FLEET; the state directory is --state,
    $RECONCILER_STATE or a folder of your account.
    """


def main() -> None:
    """Run the program. Exit codes: 0 done, 1 fault, 2 wrong usage (or changes, with --detailed-exitcode), see docs/plan.md."""
    try:
        code = program.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Cancelled.", err=True)
        sys.exit(130)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        click.echo("Cancelled.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as fault:  # noqa: BLE001 - the last handler: no traceback reaches a user
        sys.exit(_explain(fault))
    sys.exit(code if isinstance(code, int) else 0)


def _explain(fault: Exception) -> int:
    from reconciler.cli import faults  # noqa: PLC0415 - only on the way out

    if os.environ.get("RECONCILER_TRACEBACK"):
        import traceback  # noqa: PLC0415

        traceback.print_exception(fault)
    return faults.show(fault)


if __name__ == "__main__":
    main()
