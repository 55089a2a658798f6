"""A base policy as small as can be: what `panel.te` requires, and the categories' constraints of a policy family.

It answers two questions without SELinux in the kernel: does the module load where just these names exist, and what does
it allow? What a real base policy grants on its own (`domain` may use /dev/null, systemd may make run directories) is
left out, so an access that is allowed here is allowed by the module.
"""

from __future__ import annotations

import re
from typing import Literal

Family = Literal["el", "refpolicy"]
FAMILIES: tuple[Family, ...] = ("el", "refpolicy")

EL_ONLY = {
    "firewalld_etc_rw_t",
    "firewalld_t",
    "hostname_etc_t",
    "journalctl_exec_t",
    "machineid_t",
    "passwd_file_t",
    "postgresql_unit_file_t",
    "rpm_exec_t",
    "rpm_t",
    "setsebool_exec_t",
    "setsebool_t",
    "sshd_unit_file_t",
    "systemd_systemctl_exec_t",
    "systemd_unit_file_t",
    "systemd_unit_file_type",
    "httpd_unit_file_t",
}
REFPOLICY_ONLY = {
    "apt_exec_t",
    "apt_t",
    "dpkg_exec_t",
    "dpkg_t",
    "dpkg_var_lib_t",
    "git_exec_t",
    "systemd_journal_t",
    "postgresql_unit_t",
    "sshd_unit_t",
    "systemd_unit_t",
    "systemdunit",
}
IN_BOTH = {
    "boot_t",
    "fail2ban_t",
    "httpd_t",
    "initrc_t",
    "iptables_exec_t",
    "iptables_t",
    "modules_object_t",
    "redis_exec_t",
    "su_exec_t",
    "unconfined_r",
    "unconfined_t",
}

_FILES = "file dir lnk_file sock_file fifo_file chr_file"
_ON_FILES = (
    "read write create getattr setattr ioctl lock append unlink link rename relabelfrom relabelto open"
)
# what the constraints below name besides the module's own permissions
_ALSO = {
    **dict.fromkeys(_FILES.split(), _ON_FILES),
    "process": "transition dyntransition signal sigkill sigstop ptrace",
    "unix_stream_socket": "create bind connect listen accept read write connectto",
    "tcp_socket": "node_bind",
    # asked for, never given
    "security": "load_policy setbool setenforce",
}
_DOMINATES = "(( h1 dom h2 ) or ( t1 != mcs_constrained_type ))"
_EXACTLY = "((( h1 dom h2 ) and ( l2 eq h2 )) or ( t1 != mcs_constrained_type ))"

# policy/mcs of Debian's refpolicy 2:2.20221101
_REFPOLICY = [
    f"mlsconstrain {{ {_FILES} }} "
    "{ read write create setattr ioctl lock append unlink link rename relabelfrom relabelto open }",
    "mlsconstrain dir { search add_name remove_name rmdir }",
    "mlsconstrain file { execute execute_no_trans }",
    "mlsconstrain process { transition dyntransition signal sigkill sigstop ptrace }",
    "mlsconstrain unix_stream_socket { create bind connect listen accept read write connectto }",
]
# policy/mcs of selinux-policy, alike in Enterprise Linux 8, 9 and 10
_EL = [
    "mlsconstrain file { read ioctl lock execute execute_no_trans write setattr append unlink link rename }",
    "mlsconstrain dir { search read ioctl lock write setattr append unlink link rename add_name remove_name }",
    "mlsconstrain fifo_file { open }",
    "mlsconstrain { lnk_file chr_file sock_file } { getattr read ioctl write setattr }",
    f"mlsconstrain {{ {_FILES} }} {{ relabelfrom }}",
    "mlsconstrain { dir lnk_file sock_file fifo_file chr_file } { create relabelto }",
    "mlsconstrain process { transition dyntransition signal sigkill sigstop ptrace }",
    "mlsconstrain tcp_socket { node_bind }",
]


def _named(kind: str, block: str) -> list[str]:
    return [
        name.strip() for names in re.findall(rf"\b{kind}\s+([\w,\s]+);", block) for name in names.split(",")
    ]


def base(module: str, family: Family) -> str:
    """The source of a base policy for the module's source. Raises KeyError for an optional name of unknown family."""
    source = re.sub(r"#.*", "", module)
    blocks = re.findall(r"\brequire\s*\{((?:[^{}]|\{[^{}]*\})*)\}", source)
    missing = REFPOLICY_ONLY if family == "el" else EL_ONLY
    wanted: dict[str, list[str]] = {}
    for kind in ("type", "attribute", "role"):
        always, maybe = _named(kind, blocks[0]), [n for block in blocks[1:] for n in _named(kind, block)]
        for name in maybe:
            if name not in EL_ONLY | REFPOLICY_ONLY | IN_BOTH:
                raise KeyError(name)
        wanted[kind] = sorted({*always, *maybe} - missing)
    classes = _classes("".join(blocks))
    types = " ".join(wanted["type"])
    lines = [f"class {name}" for name in classes] + ["sid kernel"]
    lines += [f"class {name} {{ {' '.join(sorted(permissions))} }}" for name, permissions in classes.items()]
    if family == "el":
        lines.append(f"default_range {{ {_FILES} }} target low;")
    lines += ["sensitivity s0;", "dominance { s0 }", *(f"category c{n};" for n in range(1024))]
    lines.append("level s0:c0.c1023;")
    lines += [f"{constraint} {_DOMINATES};" for constraint in (_EL if family == "el" else _REFPOLICY)]
    if family == "el":
        lines.append(f"mlsconstrain file {{ create relabelto }} {_EXACTLY};")
    lines += [f"attribute {name};" for name in wanted["attribute"]]
    lines += [f"type {name};" for name in wanted["type"]]
    lines.append("typeattribute unreserved_port_t unreserved_port_type;")
    lines += [f"role {name};" for name in ("object_r", *wanted["role"])]
    lines += [f"role {name} types {{ {types} }};" for name in wanted["role"]]
    lines.append("allow init_t self:process { signal };")
    lines += [
        f"user {user} roles {{ {' '.join(wanted['role'])} }} level s0 range s0 - s0:c0.c1023;"
        for user in ("system_u", "unconfined_u")
    ]
    lines.append("sid kernel system_u:system_r:init_t:s0")
    return "\n".join(lines) + "\n"


def _classes(block: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, several, one in re.findall(r"\bclass\s+(\w+)\s+(?:\{([^}]*)\}|(\w+))\s*;", block):
        found.setdefault(name, set()).update((several or one).split())
    for name, permissions in _ALSO.items():
        found.setdefault(name, set()).update(permissions.split())
    return found
