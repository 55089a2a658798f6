"""Exit codes: Terraform's for a plan, and one number for each way an apply can end."""

from __future__ import annotations

from enum import IntEnum

from reconciler.plan.model import Plan


class ExitCode(IntEnum):
    """Process exit codes of every verb that plans or applies."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    """Only with `--detailed-exitcode`."""
    DENIED = 3
    """A guard or a policy stands in the way."""
    STALE = 4
    LOCKED = 5
    CANCELLED = 6
    TIMEOUT = 7


def errored(plan: Plan) -> bool:
    """Whether the plan is an error as a whole: manifests have problems, or the source declares nothing."""
    return any(p.severity == "error" for p in plan.problems) or any(
        f.code == "empty-source" for f in plan.findings
    )


def exit_code(plan: Plan, detailed: bool = False) -> ExitCode:  # noqa: FBT001, FBT002 - reads well by name
    """The exit code of `plan`: 1 when it errored; with `detailed` 2 when something changes or has drifted; else 0."""
    if errored(plan):
        return ExitCode.ERROR
    if detailed and (plan.effective or plan.drift):
        return ExitCode.CHANGES
    return ExitCode.OK
