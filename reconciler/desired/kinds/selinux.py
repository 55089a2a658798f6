"""SELinux of a server: what its kernel is to do, switches of its policy, and rules of the fleet's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import PRINTABLE, Means, Model
from reconciler.selinux import rules

SELinuxMode = Literal["enforcing", "permissive", "disabled"]


def _rule(value: str) -> str:
    return str(rules.parse(value))


BooleanName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$"),
    Means("SELinux boolean", "the name of a switch of the policy, such as httpd_can_network_connect"),
]
PolicyRule = Annotated[
    str,
    StringConstraints(max_length=1000, pattern=PRINTABLE),
    AfterValidator(_rule),
    Means(
        "rule",
        "one line that begins with allow or dontaudit, as `reconciler avc --explain` suggests it",
    ),
]


class SELinux(Model):
    """What the node's kernel is to enforce."""

    mode: SELinuxMode | None = Field(
        default=None,
        description="`enforcing`: a node that does not enforce is not worked on, and says so. `permissive`: levels and labels are set, but a node that only logs is accepted. `disabled`: nothing of SELinux is touched. Absent: `enforcing` on AlmaLinux and Rocky Linux, `disabled` on Debian.",
    )
    booleans: dict[BooleanName, bool] = Field(
        default_factory=dict,
        description="Switches of the policy, kept as they are here. `panel_can_manage_users` and `panel_can_reload_nginx` are on unless said otherwise.",
    )
    rules: tuple[PolicyRule, ...] = Field(
        default=(),
        max_length=200,
        description="Rules of policy beyond the shipped ones, each a line such as `allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;`. Rolled out like any other change.",
    )
