"""Which steps come last of all in an apply, and which of them could lock the daemon out of the node."""

UNDONE = "was undone by the node because it was not confirmed"
"""The message of a section whose guarded steps the node has put back by itself."""

_PATHS = ("/etc/sudoers.d/panel-logins", "/etc/systemd/system/panel-firewall.service")
_GUARDED = ("firewall", "sshd")
_LAST = ("timezone", "swap")
_LAST_UNITS = ("unit:fail2ban.service", "unit:dnf-automatic.timer")


def is_guarded(key: str) -> bool:
    """Whether the node undoes the step of this key unless it is confirmed."""
    kind, _, target = key.partition(":")
    return kind in _GUARDED or (kind == "file" and target in _PATHS)


def is_last(key: str) -> bool:
    """Whether the step of this key is carried out once everything else of the apply is done: it is guarded, or nothing that
    a site needs depends on it, so that its failure costs no site anything."""
    return key in _LAST_UNITS or key.partition(":")[0] in _LAST or is_guarded(key)
