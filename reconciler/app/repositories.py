"""How the repositories of sites' applications are reached, from the program's settings."""

from __future__ import annotations

from pathlib import Path

from reconciler.app import config
from reconciler.app.config_model import GitSettings
from reconciler.loop.applications import Reach


def reach(git: GitSettings) -> Reach:
    """As the settings' `git` says. Paths of this machine are for fleets only, whose addresses are in the settings."""
    return Reach(
        protocols=tuple(name for name in git.protocols if name != "file"),
        ssh_key=Path(git.ssh_key) if git.ssh_key else None,
        known_hosts=Path(git.known_hosts) if git.known_hosts else None,
        seconds=git.timeout,
    )


def reach_of(state: Path) -> Reach:
    """As the settings file says that a daemon of this state directory would read; the defaults without one. SettingsFault."""
    found = config.find(None, state)
    return reach(config.load(found).git if found is not None else GitSettings())
