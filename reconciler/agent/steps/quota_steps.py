"""Disk quotas."""

from typing import Any, Dict, Optional

from .. import observe, quotas
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from .contract import Finding, Handler, Run, absent, change


class Quotas(Handler):
    """`quota`: how much the files of a user may take on the file system of a path."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Ask the kernel. A file system without quotas holds no limit, so there is nothing to take away there."""
        account = observe.user(step["user"])
        if account is None:
            return None if absent(step) else Finding("create", [change("bytes", None, step["bytes"])])
        try:
            now = quotas.get(step["path"], account.pw_uid).limit
        except quotas.NoQuotas as none:
            if absent(step):
                return None
            return Finding("create", [change("bytes", None, step["bytes"])], str(none))
        if absent(step):
            return Finding("delete", []) if now else None
        if now == step["bytes"]:
            return None
        before = now or None
        return Finding("update" if now else "create", [change("bytes", before, step["bytes"])])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The limit so far; empty where there can be none."""
        account = observe.user(step["user"])
        if account is None:
            return {}
        try:
            before = quotas.get(step["path"], account.pw_uid).limit
        except quotas.NoQuotas:
            return {"user": step["user"], "path": step["path"], "bytes": None}
        return {"user": step["user"], "path": step["path"], "bytes": before}

    def apply(self, step: Step, run: Run) -> None:
        """Set the limit, or take it away."""
        account = observe.user(step["user"])
        if account is None:
            if not absent(step):
                raise StepFault("there is no user {}".format(step["user"]))
            return
        quotas.put(step["path"], account.pw_uid, 0 if absent(step) else step["bytes"])

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Set the old limit again."""
        if not record:
            return False
        account = observe.user(record["user"])
        if account is not None and record["bytes"] is not None:
            quotas.put(record["path"], account.pw_uid, record["bytes"])
        return True
