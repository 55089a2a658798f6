"""Why SELinux refused something, and what would change it: isolation at work, a wrong label, or a rule that is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.selinux import labels, mcs
from reconciler.selinux.audit import Context, Denial, site_of

Cause = Literal["isolation", "missing rule", "wrong label", "granted", "unreadable"]

_OURS = frozenset({*labels.SITE_DOMAINS, labels.NGINX, "laravel_app_t", "laravel_ssh_key_t"})
_ADMINISTRATORS = frozenset({"laravel_app_t", "laravel_ssh_key_t"})
_WHO = {labels.PHP: "PHP", labels.JOB: "a job", labels.REDIS: "Redis"}
_FILES = frozenset({"file", "dir", "lnk_file", "sock_file", "fifo_file"})
# what files have that nobody gave a label to
_UNLABELLED = frozenset(
    {
        "default_t",
        "file_t",
        "home_root_t",
        "httpd_user_content_t",
        "unlabeled_t",
        "user_home_dir_t",
        "user_home_t",
    }
)
_WRITING = frozenset(
    {"add_name", "append", "create", "link", "remove_name", "rename", "rmdir", "setattr", "unlink", "write"}
)
_RUNNING = frozenset({"execute", "execute_no_trans"})
_BOOLEANS = {
    "useradd_exec_t": "panel_can_manage_users",
    "useradd_t": "panel_can_manage_users",
    "groupadd_exec_t": "panel_can_manage_users",
    "groupadd_t": "panel_can_manage_users",
    labels.NGINX: "panel_can_reload_nginx",
}


@dataclass(frozen=True)
class Explanation:
    """`said` is one sentence. `suggestion` is a command or a rule of policy, empty when nothing should be changed."""

    cause: Cause
    said: str
    suggestion: str = ""


def explain(
    denial: Denial, *, sites: Mapping[int, str] | None = None, wanted: Iterable[labels.Label] = ()
) -> Explanation:
    """Why a denial happened.

    `sites` names the sites of the server by the number of their pair; `wanted` are the labels that its files are to have,
    without which only labels that no site's file ever has are known to be wrong.
    """
    source, target = denial.source, denial.target
    if denial.verdict == "granted":
        return Explanation("granted", "the policy allows this and has it recorded")
    if source is None or target is None:
        return Explanation("unreadable", "the record does not tell the contexts of both sides")
    if denial.verdict == "error":
        return _fault(denial, source, target)
    return (
        _wrong_label(denial, source, target, wanted)
        or _other_level(source, target, sites or {})
        or _on_purpose(denial, source, target)
        or _boolean(denial, source, target)
        or _missing(denial, source, target)
    )


def _wrong_label(
    denial: Denial, source: Context, target: Context, wanted: Iterable[labels.Label]
) -> Explanation | None:
    if denial.tclass not in _FILES:
        return None
    path = denial.path or ""
    label = labels.wanted(path, wanted) if path else None
    if label is not None:
        if (target.type, target.level) == (label.type, label.level):
            return None
        said = f"{path} is {target.type}:{target.level} and should be {label.type}:{label.level}"
        return Explanation(
            "wrong label", said, f"chcon -h -u system_u -t {label.type} -l {label.level} {_quoted(path)}"
        )
    if source.type in _OURS and target.type in _UNLABELLED:
        said = f"{denial.object or 'a file'} has the label of no site ({target.type})"
        return Explanation("wrong label", said, _relabel(denial))
    return None


def _relabel(denial: Denial) -> str:
    if denial.path:
        return f"restorecon -F {_quoted(denial.path)}"
    if denial.ino is not None:
        return f"find /home /run -inum {denial.ino} -exec restorecon -F {{}} +"
    return "restorecon -RF /home"


def _other_level(source: Context, target: Context, sites: Mapping[int, str]) -> Explanation | None:
    """Only what runs as a site is held to its categories, so for others a level is never the reason."""
    if source.type not in labels.SITE_DOMAINS or mcs.dominates(source.level, target.level):
        return None
    mine, theirs = site_of(source, sites), site_of(target, sites)
    whose = f"site {theirs}" if theirs else f"level {target.level or '(none)'}"
    return Explanation(
        "isolation",
        f"{_WHO[source.type]} of {f'site {mine}' if mine else source.level} may not reach what is of {whose}",
    )


def _on_purpose(denial: Denial, source: Context, target: Context) -> Explanation | None:
    """What the module leaves out so that sites, their secrets and the node are safe from PHP, jobs and the web server."""
    asked = frozenset(denial.permissions)
    match source.type, target.type, denial.tclass:
        case ((labels.PHP | labels.JOB), (labels.PHP | labels.JOB), "unix_stream_socket"):
            said = f"{_WHO[source.type]} may not talk to a php-fpm, its own or another's: that would be a way around the web server"
        case ((labels.PHP | labels.JOB), labels.RUNTIME, "sock_file") if "write" in asked:
            said = f"{_WHO[source.type]} may not talk to a php-fpm, its own or another's: that would be a way around the web server"
        case labels.PHP, (labels.SITE_CONTENT | labels.ENV), _ if asked & _WRITING:
            said = "PHP may not change its own code and settings; writable folders have the type laravel_app_rw_t"
        case labels.JOB, labels.ENV, _ if asked & _WRITING:
            said = "a job may not change .env, which the manifest of the site declares"
        case ((labels.PHP | labels.JOB), labels.REDIS_DATA, _):
            said = "only the Redis of the site may reach its data"
        case ((labels.PHP | labels.REDIS), _, "file") if asked & _RUNNING:
            said = f"{_WHO[source.type]} may not run programs"
        case labels.JOB, (labels.WRITABLE | "laravel_php_fpm_tmp_t"), "file" if asked & _RUNNING:
            said = "a job may not run programs from folders that PHP can write"
        case labels.JOB, ("su_exec_t" | "sudo_exec_t" | "crontab_exec_t" | "sendmail_exec_t"), "file":
            said = "a job may not become another user, make jobs outside of the manifest or hand mail to sendmail"
        case ((labels.PHP | labels.JOB), _, "tcp_socket") if "name_connect" in asked:
            said = (
                f"{_WHO[source.type]} may connect to databases, web servers and mail servers only, "
                f"not to ports of type {target.type}"
            )
        case labels.NGINX, labels.ENV, _:
            said = "the web server may not read .env files"
        case labels.NGINX, (labels.SITE_CONTENT | labels.WRITABLE), _ if asked & _WRITING:
            said = "the web server may not write to sites"
        case _:
            return None
    return Explanation("isolation", said)


def _boolean(denial: Denial, source: Context, target: Context) -> Explanation | None:
    if source.type not in _ADMINISTRATORS:
        return None
    name = _BOOLEANS.get(target.type)
    if denial.tclass == "service" and "reload" in denial.permissions:
        name = "panel_can_reload_nginx"
    if name is None:
        return None
    return Explanation("missing rule", f"the boolean {name} is off on this server", f"setsebool -P {name} on")


def _missing(denial: Denial, source: Context, target: Context) -> Explanation:
    if not denial.tclass or not denial.permissions:
        return Explanation("unreadable", "the record does not tell what was asked for")
    to = "self" if source.type == target.type else target.type
    rule = f"allow {source.type} {to}:{denial.tclass} {{ {' '.join(denial.permissions)} }};"
    what = f"{denial.comm or source.type} has no rule for {target.type}:{denial.tclass}"
    return Explanation("missing rule", what, rule)


def _fault(denial: Denial, source: Context, target: Context) -> Explanation:
    if "bounded_transition" in denial.text or "nnp" in denial.text:
        rule = f"allow {source.type} {target.type}:process2 {{ nnp_transition nosuid_transition }};"
        said = f"a process with NoNewPrivileges may not go from {source.type} to {target.type}"
        return Explanation("missing rule", said, rule)
    if "compute_sid" in denial.text:
        said = f"{target} is no valid context: the role {target.role} has not the type {target.type}"
        return Explanation("missing rule", said, f"role {target.role} types {target.type};")
    return Explanation("unreadable", "the policy met a fault that is none of the usual ones")


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"
