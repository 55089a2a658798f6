"""Groups and users of the system, and the host name."""

import os
import pwd
import time
from typing import Any, Dict, List, Optional

from .. import atomic, observe, places, process, selinux, walk
from ..faults import StepFault, cause, os_fault
from ..observe import World
from ..vocabulary import Step
from . import paths
from .contract import Change, Finding, Handler, Run, absent, change

_FIRST_ORDINARY_UID = 1000
CLAIM = "Reconciler login"
"""The comment of people's accounts: one with another comment is somebody else's, and never touched."""
_PATIENCE_SECONDS = 15.0
_ACCOUNTS = ("useradd", "usermod", "userdel", "groupadd", "groupdel")
_ARCHIVE_SECONDS = 3600.0


def _call(argv: List[str], timeout: float = 120.0) -> None:
    done = process.run(argv, timeout=timeout)
    if done.ok():
        return
    why = done.reason(argv[0])
    if argv[0] in _ACCOUNTS and "denied" in why:
        why += selinux.brake("panel_can_manage_users")
    raise StepFault(why)


class Hostname(Handler):
    """`hostname`: the static host name."""

    def _now(self) -> str:
        try:
            with open(places.real("/etc/hostname"), "rb") as source:
                return source.read(256).decode("ascii", "replace").strip()
        except OSError:
            return ""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare with /etc/hostname."""
        now = self._now()
        return None if now == step["name"] else Finding("update", [change("name", now, step["name"])])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The name so far."""
        return {"name": self._now()}

    def apply(self, step: Step, run: Run) -> None:
        """Set it through systemd-hostnamed, or in the file where there is no systemd."""
        self._set(step["name"])

    def _set(self, name: str) -> None:
        if places.has_systemd():
            _call(["hostnamectl", "--static", "set-hostname", name])
        if self._now() != name:
            try:
                with walk.parent_of("/etc/hostname") as parent:
                    body = name.encode("ascii") + b"\n"
                    atomic.replace(parent, lambda fd: atomic.write_all(fd, body), atomic.Owner(0, 0, 0o644))
            except OSError as error:
                raise os_fault("write", "/etc/hostname", error) from None

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Set the old name again."""
        if record["name"]:
            self._set(record["name"])
        return bool(record["name"])


class Groups(Handler):
    """`group`."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Look the name up."""
        exists = observe.group(step["name"]) is not None
        if exists == (not absent(step)):
            return None
        return Finding("delete" if exists else "create", [change("exists", exists, not exists)])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Only a new group can be taken back."""
        return {"created": step["name"]} if not absent(step) else {}

    def apply(self, step: Step, run: Run) -> None:
        """groupadd or groupdel."""
        if absent(step):
            _call(["groupdel", step["name"]])
        else:
            _call(["groupadd", *(["-r"] if step.get("system") else []), step["name"]])

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Remove a group that was made."""
        if "created" not in record:
            return False
        if observe.group(record["created"]) is not None:
            _call(["groupdel", record["created"]])
        return True


def extra_groups(account: pwd.struct_passwd) -> List[str]:
    """Names of the groups beside the first, sorted."""
    numbers = set(os.getgrouplist(account.pw_name, account.pw_gid)) - {account.pw_gid}
    return sorted(observe.group_name(number) for number in numbers)


def _refuse_system_account(step: Step, account: pwd.struct_passwd) -> None:
    if account.pw_uid < _FIRST_ORDINARY_UID and account.pw_dir != step["home"]:
        raise StepFault(
            "{} is an account of the system (uid {}, home {}); it is left alone".format(
                account.pw_name, account.pw_uid, account.pw_dir
            )
        )


class Users(Handler):
    """`user`: the account, a group of the same name, and the home, which the agent makes itself."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the account's fields and the home's owner, group and mode."""
        account = observe.user(step["name"])
        home = walk.examine(step["home"])
        if step.get("claim") and account is not None and account.pw_gecos != CLAIM:
            if absent(step):
                return None
            return Finding(
                "update", [], "{} is not an account of ours; it is left alone".format(step["name"])
            )
        if absent(step):
            if account is None and home is None:
                return None
            note = "the home is archived first" if home is not None else ""
            return Finding("delete", [], note)
        if account is None:
            return Finding("create", [change("home", None, step["home"])])
        changes = self._account_changes(step, account)
        if home is None:
            changes.append(change("home_mode", None, step["home_mode"]))
        elif walk.kind(home) != "directory":
            changes.append(paths.kind_change(home, "directory"))
        else:
            changes += self._home_changes(step, home, account, world)
        return Finding("update", changes) if changes else None

    def _account_changes(self, step: Step, account: pwd.struct_passwd) -> List[Change]:
        wanted = {"home": step["home"], "shell": step["shell"]}
        now = {"home": account.pw_dir, "shell": account.pw_shell}
        if "comment" in step:
            wanted["comment"], now["comment"] = step["comment"], account.pw_gecos
        changes = [
            change(field, now[field], wanted[field]) for field in wanted if now[field] != wanted[field]
        ]
        groups = extra_groups(account)
        if "groups" in step and groups != sorted(step["groups"]):
            changes.append(change("groups", groups, sorted(step["groups"])))
        return changes

    def _home_changes(
        self, step: Step, home: os.stat_result, account: pwd.struct_passwd, world: World
    ) -> List[Change]:
        rows = (
            ("home_owner", world.user_name(home.st_uid), account.pw_name),
            ("home_group", world.group_name(home.st_gid), step["home_group"]),
            ("home_mode", walk.mode_text(home), step["home_mode"]),
        )
        return [change(field, now, wanted) for field, now, wanted in rows if now != wanted]

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The account as it was; a removal cannot be taken back (the archive is kept)."""
        if absent(step):
            return {}
        account = observe.user(step["name"])
        home = paths.record(step["home"], run) if self._parent_exists(step["home"]) else None
        if account is None:
            return {"created": step["name"], "home": home}
        fields = {"home": account.pw_dir, "shell": account.pw_shell, "comment": account.pw_gecos}
        return {"name": step["name"], "fields": fields, "groups": extra_groups(account), "home": home}

    def _parent_exists(self, home: str) -> bool:
        return walk.examine(os.path.dirname(home)) is not None

    def apply(self, step: Step, run: Run) -> None:
        """Make, change or remove the account and its home. Raises StepFault."""
        if absent(step):
            _remove_user(step, run)
            return
        account = observe.user(step["name"])
        if step.get("claim") and account is not None and account.pw_gecos != CLAIM:
            raise StepFault(
                "there is an account {} already that is not ours; remove it, or give the User another name".format(
                    step["name"]
                )
            )
        if step.get("claim") and account is None and walk.examine(step["home"]) is not None:
            raise StepFault("{} is there already and is not ours; move it aside".format(step["home"]))
        if account is None:
            self._add(step)
        else:
            _refuse_system_account(step, account)
            self._modify(step, account)
        self._make_home(step)

    def _add(self, step: Step) -> None:
        # login.defs differs from node to node: say everything that matters. No password is set, so none works.
        argv = ["useradd", "-M", "-d", step["home"], "-s", step["shell"], "-c", step.get("comment", "")]
        argv += ["-K", "PASS_MAX_DAYS=-1"]
        argv += ["-N", "-g", step["name"]] if observe.group(step["name"]) else ["-U"]
        if step.get("groups"):
            argv += ["-G", ",".join(step["groups"])]
        _call([*argv, step["name"]])

    def _modify(self, step: Step, account: pwd.struct_passwd) -> None:
        flags = {"home": "-d", "shell": "-s", "comment": "-c"}
        argv: List[str] = []
        for item in self._account_changes(step, account):
            value = ",".join(item["to"]) if item["field"] == "groups" else item["to"]
            argv += [flags.get(item["field"], "-G"), value]
        if argv:
            _call(["usermod", *argv, step["name"]])

    def _make_home(self, step: Step) -> None:
        account = observe.user(step["name"])
        if account is None:
            raise StepFault("the account {} was made but cannot be found".format(step["name"]))
        owner = atomic.Owner(account.pw_uid, observe.gid_of(step["home_group"]), int(step["home_mode"], 8))
        try:
            with walk.parent_of(step["home"]) as parent:
                info = walk.look(parent)
                paths.refuse_other_kind(info, step["home"], "directory")
                if info is None:
                    atomic.make_folder(parent)
                paths.own_folder(parent, owner)
                os.fsync(parent.fd)
        except OSError as error:
            raise os_fault("make", step["home"], error) from None

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Remove what was made (a home only when empty), or set the old fields again."""
        if not record:
            return False
        if "created" in record:
            clean = record["home"] is None or paths.restore(record["home"], copies, run)
            if clean and observe.user(record["created"]) is not None:
                _call(["userdel", record["created"]])
            return clean
        fields = record["fields"]
        argv = ["usermod", "-d", fields["home"], "-s", fields["shell"], "-c", fields["comment"]]
        _call([*argv, "-G", ",".join(record["groups"]), record["name"]])
        return record["home"] is None or paths.restore(record["home"], copies, run)


def _end_processes(account: pwd.struct_passwd) -> None:
    """End every process of a user. Raises StepFault when some will not go."""
    if places.has_systemd():
        process.run(["loginctl", "disable-linger", account.pw_name], timeout=30)
        process.run(["loginctl", "terminate-user", account.pw_name], timeout=60)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.run(["pgrep", "-U", str(account.pw_uid)], timeout=30).code == 0:
        process.run(["pkill", "-KILL", "-U", str(account.pw_uid)], timeout=30)
        if time.monotonic() > deadline:
            raise StepFault("processes of {} do not end".format(account.pw_name))
        time.sleep(0.1)


def _remove_user(step: Step, run: Run) -> None:
    account = observe.user(step["name"])
    if account is not None:
        _refuse_system_account(step, account)
        if account.pw_dir != step["home"]:
            raise StepFault("the home of {} is {}, not {}".format(step["name"], account.pw_dir, step["home"]))
        _end_processes(account)
        process.run(["crontab", "-u", step["name"], "-r"], timeout=30)
    try:
        _archive_home(step, run)
    except OSError as error:
        raise StepFault(
            "cannot archive {} to {}: {}".format(step["home"], places.ARCHIVE, cause(error))
        ) from None
    if account is not None:
        _call(["userdel", step["name"]])
    if observe.group(step["name"]) is not None:
        process.run(["groupdel", step["name"]], timeout=60)
    if walk.examine(step["home"]) is not None:
        # rm never follows links below, and unlike shutil.rmtree it copes with folders nested without end.
        argv = ["rm", "-rf", "--one-file-system", "--", places.real(step["home"])]
        done = process.run(argv, timeout=_ARCHIVE_SECONDS)
        if not done.ok():
            raise StepFault("cannot remove {}: {}".format(step["home"], done.reason("rm")))


def _archive_home(step: Step, run: Run) -> None:
    """Pack the home; nothing is removed before the archive is complete and synced. Raises StepFault, OSError."""
    info = walk.examine(step["home"])
    if info is None:
        return
    if walk.kind(info) != "directory":
        raise StepFault("the home {} is a {}; it is left alone".format(step["home"], walk.kind(info)))
    archive = "{}/{}-{}.tar.gz".format(places.ARCHIVE, step["name"], run.deployment)
    atomic.save_stream(archive, lambda fd: _pack(step["home"], fd))


def _pack(home: str, target: int) -> None:
    folder, name = os.path.split(home)
    argv = ["tar", "--create", "--one-file-system", "--directory", places.real(folder), "--", name]
    done = process.run_to_gzip(argv, target, timeout=_ARCHIVE_SECONDS)
    if done.timed_out or done.code not in (0, 1):  # 1: a file changed while it was read
        raise StepFault("cannot archive {}: {}".format(home, done.reason("tar")))
