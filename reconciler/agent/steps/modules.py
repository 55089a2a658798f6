"""Module streams of dnf: which major version of a package the repositories of Enterprise Linux 8 and 9 offer."""

import configparser
from typing import Any, Dict, Optional

from .. import places
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from . import packages
from .contract import Finding, Handler, Run, change

_UNKNOWN = ("missing groups or modules", "Unable to resolve argument", "No matches found")


def enabled_stream(module: str) -> str:
    """The stream that is enabled, empty when none is. dnf(8) keeps it in a file a module."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(places.real("/etc/dnf/modules.d/{}.module".format(module)), encoding="utf-8") as source:
            parser.read_file(source)
    except (OSError, ValueError, configparser.Error):
        return ""
    if not parser.has_section(module) or parser.get(module, "state", fallback="") != "enabled":
        return ""
    return parser.get(module, "stream", fallback="")


class Streams(Handler):
    """`module`: a stream is enabled before its package is installed.

    What is installed is left in its stream: for a database server another one is an upgrade of its data, which is a
    person's decision.
    """

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Read dnf's file; a package that is there decides."""
        now = enabled_stream(step["name"])
        if now == step["stream"] or world.installed(step["package"]):
            return None
        return Finding("update" if now else "create", [change("stream", now or None, step["stream"])])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The stream so far."""
        return {"module": step["name"], "stream": enabled_stream(step["name"])}

    def apply(self, step: Step, run: Run) -> None:
        """Reset, since dnf refuses to change a stream that is enabled, and enable. Repositories without the module have
        its package as a plain one, if at all. Raises StepFault."""
        wanted = "{}:{}".format(step["name"], step["stream"])
        if enabled_stream(step["name"]):
            packages.dnf_module("reset", step["name"], run)
        said = packages.dnf_module("enable", wanted, run)
        if said and not any(text in said for text in _UNKNOWN):
            raise StepFault("cannot enable the module {}: {}".format(wanted, said))
        if said:
            run.log(
                "stderr", "no repository has the module {}; its package is taken as it is\n".format(wanted)
            )

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Back to the stream of before."""
        if enabled_stream(record["module"]) == record["stream"]:
            return True
        said = packages.dnf_module("reset", record["module"], run)
        if not said and record["stream"]:
            said = packages.dnf_module("enable", "{}:{}".format(record["module"], record["stream"]), run)
        return not said
