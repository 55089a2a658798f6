"""Steps that undo steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reconciler.blueprint.model import Step
from reconciler.kit.canonical import Json

_NEVER = frozenset(
    {"repository", "module", "hostname", "postgresql_cluster", "selinux_booleans", "selinux_port", "release"}
)
"""Types that stay: what is installed may be used by others, a cluster is full of data, and how a switch stood is not known.
The label of a port stays because sshd must be able to come back to it when a change of its ports is put back.
Of packages only those of a piece of software go that a manifest names."""

_IDENTITY = {
    "package": ("name", "software"),
    "group": ("name",),
    "user": ("name", "home"),
    "quota": ("user", "path"),
    "directory": ("path",),
    "file": ("path",),
    "symlink": ("path",),
    "unit": ("name",),
    "certificate": ("site",),
    "web_server": ("unit", "instead_of", "user", "other_user"),
    "firewall": ("backend",),
    "sshd": ("unit",),
    "timezone": ("zone",),
    "swap": ("size",),
    "selinux_module": ("name",),
    "selinux_labels": ("site", "roots"),
    "mariadb_database": ("name",),
    "mariadb_user": ("name", "host"),
    "mariadb_grant": ("database", "user", "host"),
    "postgresql_setting": ("name",),
    "postgresql_role": ("name",),
    "postgresql_database": ("name",),
    "postgresql_grant": ("database", "role"),
}
"""The fields that tell what is meant; the others say how it should be, which no longer matters."""

_WEB_SERVER, _NGINX, _CADDY = "web_server:node", "unit:nginx.service", "unit:caddy.service"

_KEPT = frozenset({"selinux_module:panel", "unit:certbot.timer", "unit:certbot-renew.timer"})
"""The policy module stays: processes run in its domains, and files would be left without a type. So do the timers that renew
certificates: a node may have others than ours."""

_REPLACED = "pg_hba.conf"
"""A file that the distribution brought and the server cannot start without."""


def removals(before: Sequence[Step], keep: Collection[str]) -> tuple[Step, ...]:
    """The steps that undo `before`, last first, but for those whose keys are in `keep`.

    A removed user takes its home along (the agent archives it), so nothing below it is removed one by one; in the
    home of a user that stays, folders and files that were placed once belong to the site and are left. Databases,
    their users and grants are dropped like anything else: leave their steps out of `before` to retain them.
    """
    gone = [step for step in before if step.key not in keep and _undoable(step)]
    gone = [step for step in gone if not _handed_over(step, before, keep)]
    homes = {str(step.params["home"]): step.key not in keep for step in before if step.type == "user"}
    return tuple(_absent(step) for step in reversed(gone) if not _left_in_home(step, homes))


def _handed_over(step: Step, before: Sequence[Step], keep: Collection[str]) -> bool:
    """Whether a step of a web server is not undone by itself, because another one takes its place."""
    leaves_caddy = _NGINX in keep and any(other.key == _WEB_SERVER for other in before)
    if step.key == _WEB_SERVER:
        return not leaves_caddy  # nobody is there to take over
    return (step.key == _NGINX and _WEB_SERVER in keep) or (step.key == _CADDY and leaves_caddy)


def _undoable(step: Step) -> bool:
    if step.type in _NEVER or step.key in _KEPT or step.params.get("state") == "absent":
        return False
    if step.type == "package":
        return bool(step.params.get("software"))
    if step.type == "unit":
        return step.params.get("active") is not False or step.params.get("enabled") is not False
    return not (step.type == "file" and step.target.endswith(f"/{_REPLACED}"))


def _left_in_home(step: Step, homes: dict[str, bool]) -> bool:
    if step.type not in ("file", "directory", "symlink"):
        return False
    for home, user_goes in homes.items():
        if step.target.startswith(f"{home}/"):
            return user_goes or step.type == "directory" or step.params.get("once") is True
    return False


def _absent(step: Step) -> Step:
    params: dict[str, Json] = {name: step.params[name] for name in _IDENTITY[step.type]}
    if step.params.get("claim"):
        params["claim"] = True
    params["state"] = "absent"
    return Step(step.type, step.target, params)
