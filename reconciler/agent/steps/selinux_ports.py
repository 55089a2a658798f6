"""Labels of ports: which ones a daemon that SELinux confines may listen on."""

from typing import Any, Dict, List, Optional

from .. import places, process, selinux
from ..faults import StepFault, os_fault
from ..observe import World
from ..vocabulary import Step
from .contract import Finding, Handler, Run, change

_SECONDS = 1200.0


class Ports(Handler):
    """`selinux_port`: the type of a TCP port in the policy of this node. It is never taken away again."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare with what was set on this node."""
        now = _local(step["port"])
        if now == step["label"]:
            return None
        return Finding("update" if now else "create", [change("label", now or None, step["label"])])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The type so far, empty when the policy's own holds."""
        return {"port": step["port"], "label": _local(step["port"])}

    def apply(self, step: Step, run: Run) -> None:
        """Set it. Raises StepFault."""
        if not selinux.enabled():
            raise StepFault(
                "SELinux is off on this node, so ports have no labels; boot it with SELinux, or set spec.selinux.mode to disabled"
            )
        _set(step["port"], step["label"], run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """The type of before."""
        if record["label"]:
            _set(record["port"], record["label"], run)
        elif _local(record["port"]):
            _semanage(["-d", "-p", "tcp", str(record["port"])], run)
        return True


def _set(port: int, kind: str, run: Run) -> None:
    words = ["-t", kind, "-r", "s0", "-p", "tcp", str(port)]
    if _local(port):
        _semanage(["-m", *words], run)
        return
    done = process.run(["semanage", "port", "-a", *words], timeout=_SECONDS)
    if not done.ok() and "already defined" in done.err:
        # the policy itself gives this port a type: a port of its own, which -m makes one of the node's
        _semanage(["-m", *words], run)
    elif not done.ok():
        raise StepFault(done.reason("semanage port"))


def _semanage(words: List[str], run: Run) -> None:
    done = process.run(["semanage", "port", *words], timeout=_SECONDS, listener=run.log)
    if not done.ok():
        raise StepFault(done.reason("semanage port"))


def _local(port: int) -> str:
    """The type that somebody gave a port on this node, alone; empty when nobody did. Raises StepFault."""
    path = "/var/lib/selinux/{}/active/ports.local".format(selinux.policy())
    try:
        with open(places.real(path), "rb") as source:
            lines = source.read().decode("utf-8", "replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise os_fault("read", path, error) from None
    for line in lines:
        # portcon tcp 2222 system_u:object_r:ssh_port_t:s0
        words = line.split()
        if words[:3] == ["portcon", "tcp", str(port)] and len(words) == 4:
            parts = words[3].split(":")
            return parts[2] if len(parts) > 2 else ""
    return ""
