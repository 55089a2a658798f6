"""The step types: each knows how to look, to change and to put back."""

from typing import Dict

from . import (
    accounts,
    certificates,
    files,
    firewall,
    machine,
    mariadb_steps,
    modules,
    packages,
    postgresql_steps,
    quota_steps,
    releases,
    selinux_ports,
    selinux_steps,
    sshd,
    units,
    upgrades,
    web,
)
from .contract import Handler

HANDLERS: Dict[str, Handler] = {
    "package": packages.Packages(),
    "upgrade": upgrades.Upgrades(),
    "repository": packages.Repositories(),
    "module": modules.Streams(),
    "hostname": accounts.Hostname(),
    "group": accounts.Groups(),
    "user": accounts.Users(),
    "quota": quota_steps.Quotas(),
    "directory": files.Directories(),
    "file": files.Files(),
    "symlink": files.Symlinks(),
    "unit": units.Units(),
    "release": releases.Releases(),
    "certificate": certificates.Certificates(),
    "web_server": web.WebServers(),
    "selinux_module": selinux_steps.Modules(),
    "selinux_booleans": selinux_steps.Booleans(),
    "selinux_labels": selinux_steps.Labels(),
    "selinux_port": selinux_ports.Ports(),
    "firewall": firewall.Firewall(),
    "sshd": sshd.Sshd(),
    "timezone": machine.TimeZone(),
    "swap": machine.Swap(),
    "mariadb_database": mariadb_steps.Databases(),
    "mariadb_user": mariadb_steps.Users(),
    "mariadb_grant": mariadb_steps.Grants(),
    "postgresql_cluster": postgresql_steps.Clusters(),
    "postgresql_setting": postgresql_steps.Settings(),
    "postgresql_role": postgresql_steps.Roles(),
    "postgresql_database": postgresql_steps.Databases(),
    "postgresql_grant": postgresql_steps.Grants(),
}


def handler_of(key: str) -> Handler:
    """The handler of a step by its key."""
    return HANDLERS[key.split(":", 1)[0]]
