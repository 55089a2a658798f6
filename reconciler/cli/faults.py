"""Faults as people read them: what happened, where, what to do; and the exit code for each."""

from __future__ import annotations

import click

from reconciler import errors


def show(fault: Exception) -> int:
    """Print a fault on standard error and return the exit code it means."""
    if not isinstance(fault, errors.ReconcilerError):
        click.echo(f"Error: internal fault ({type(fault).__name__}: {fault})", err=True)
        click.echo(
            "This is a defect. Run again with RECONCILER_TRACEBACK=1 for the details to report.", err=True
        )
        return 1
    if isinstance(fault, (errors.InvalidFleet, errors.InvalidSettings)):
        for problem in fault.problems:
            click.echo(str(problem), err=True)
    click.echo(f"Error: {fault.message}", err=True)
    if fault.hint:
        click.echo(f"Hint: {fault.hint}", err=True)
    return exit_code(fault)


def exit_code(fault: errors.ReconcilerError) -> int:
    """1 for any fault but those with a code of their own: guard 3, stale 4, locked 5, time-out 7."""
    match fault:
        case errors.ApprovalNeeded():
            return 3
        case errors.StalePlan():
            return 4
        case errors.StoreBusy() | errors.NodeBusy() | errors.Fenced():
            return 5
        case errors.DeadlinePassed():
            return 7
        case _:
            return 1
