"""sshd: one drop-in of ours, read before the distribution's, for the first value of a keyword wins."""

import hashlib
import os
from typing import Any, Dict, List, Optional

from .. import atomic, blobs, places, process, walk
from ..faults import StepFault, os_fault
from ..observe import World
from ..vocabulary import Step
from . import paths, units
from .contract import Finding, Handler, Run, absent, change

PATH = "/etc/ssh/sshd_config.d/01-panel.conf"
_SECONDS = 30.0


def _must(argv: List[str]) -> str:
    done = process.run(argv, timeout=_SECONDS)
    if not done.ok():
        raise StepFault(done.reason(" ".join(argv[:2])))
    return done.out


class Sshd(Handler):
    """`sshd`: the body of the drop-in, the unit that reads it, and what `sshd -T` must say then."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the body and the mode."""
        now = self._now()
        if absent(step):
            return None if now is None else Finding("delete", [])
        if now == step["sha256"]:
            return None
        found = [change("sha256", now, step["sha256"])]
        return Finding("create" if now is None else "update", found, body=step["sha256"])

    def _now(self) -> Optional[str]:
        try:
            with open(places.real(PATH), "rb") as source:
                return hashlib.sha256(source.read()).hexdigest()
        except FileNotFoundError:
            return None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The file, and which unit reads it."""
        return {"file": paths.record(PATH, run), "unit": step["unit"]}

    def apply(self, step: Step, run: Run) -> None:
        """Write it, have sshd check it, see that it takes effect, reload. Raises StepFault; `undo` puts it back then."""
        if absent(step):
            self._remove()
        else:
            self._write(step["sha256"])
        _must(["sshd", "-t"])
        if not absent(step):
            self._expect(step["expect"])
        self._reload(step["unit"])

    def _remove(self) -> None:
        try:
            with walk.parent_of(PATH) as parent:
                paths.remove(parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_fault("remove", PATH, error) from None

    def _write(self, sha256: str) -> None:
        source = blobs.open_body(sha256)
        try:
            with walk.parent_of(PATH) as parent:
                os.lseek(source, 0, os.SEEK_SET)
                atomic.replace(parent, lambda target: _copied(source, target), atomic.Owner(0, 0, 0o600))
        except OSError as error:
            raise os_fault("write", PATH, error) from None
        finally:
            os.close(source)

    def _expect(self, expected: Dict[str, List[str]]) -> None:
        """Whether sshd takes these settings: another file may say something else first, or ours may not be read at all.

        `sshd -T` prints lower-case keywords, one or more values a line, as they hold for the login that the test names.
        """
        found: Dict[str, List[str]] = {}
        for line in _must(["sshd", "-T", "-C", "user=panel,host=localhost,addr=127.0.0.1"]).splitlines():
            word, _, value = line.strip().partition(" ")
            found.setdefault(word, []).extend(value.split())
        for word, wanted in sorted(expected.items()):
            now = [_SAME.get(value, value) for value in found.get(word, [])]
            if sorted(now) != sorted(wanted):
                raise StepFault(
                    "sshd has {} {} and not {}: {} is not read, or another file says so first".format(
                        word, " ".join(now) or "unset", " ".join(wanted), PATH
                    )
                )

    def _reload(self, unit: str) -> None:
        if not units.state_of(unit).is_active():
            return  # it reads its files when it is started
        message = units.control("reload", unit)
        if message:
            raise StepFault(message)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """The file as it was, and sshd with it."""
        done = paths.restore(record["file"], copies, run)
        self._reload(record["unit"])
        return done


_SAME = {"without-password": "prohibit-password"}
"""Old words that `sshd -T` prints for new ones."""


def _copied(source: int, target: int) -> None:
    atomic.copy(source, target)
