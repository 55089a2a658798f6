"""What the receive hooks of a repository need to know, taken from the daemon's settings when they are installed.

It is written beside the hooks: whoever pushes must not need to read the daemon's settings, which name secrets.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.app import config as daemon
from reconciler.app.config_model import FleetSettings
from reconciler.app.hook_settings import HookSettings, Watch
from reconciler.desired import remotes
from reconciler.errors import SettingsFault, SourceFault


def settings_for(
    repo: Path,
    state: Path,
    config: Path | None,
    *,
    name: str | None = None,
    branch: str | None = None,
    path: str | None = None,
    follow: float = 20.0,
) -> HookSettings:
    """The hooks' settings for a bare repository: those of every fleet that follows it, or of the fleet `name`.

    Without a settings file: one fleet on `branch` (main) and `path`. SettingsFault when the file has problems, or no
    fleet in it is this repository's.
    """
    found = daemon.find(config, state)
    if found is None:
        if name not in (None, "main"):
            raise SettingsFault(
                f"there is no fleet {name!r}: there are no settings", hint="name them by --config"
            )
        return HookSettings(state, follow, (_checked(Watch(branch=branch or "main", path=path or "")),))
    settings = daemon.load(found)
    fleets = (settings.fleet(name),) if name is not None else _followers(repo, settings.fleets)
    watches = [
        Watch(
            fleet.name,
            branch or fleet.branch,
            fleet.path if path is None else path,
            fleet.signatures.policy,
            fleet.signatures.signers,
        )
        for fleet in fleets
    ]
    return HookSettings(state, follow, tuple(_checked(watch) for watch in watches))


def _checked(watch: Watch) -> Watch:
    remotes.check_branch(watch.branch)
    return watch


def _followers(repo: Path, fleets: tuple[FleetSettings, ...]) -> tuple[FleetSettings, ...]:
    """The fleets with this repository among their remotes; the only fleet, when it gets there by another way."""
    found = tuple(fleet for fleet in fleets if any(_is(repo, address) for address in fleet.addresses))
    if found:
        return found
    if len(fleets) == 1:
        return fleets
    names = ", ".join(fleet.name for fleet in fleets)
    raise SettingsFault(
        f"no fleet of the settings has the remote {repo.absolute()}",
        hint=f"say whose repository it is with --fleet: {names}",
    )


def _is(repo: Path, address: str) -> bool:
    try:
        remote = remotes.parse(address)
    except SourceFault:
        return False
    return remote.protocol == "file" and Path(remote.address).resolve() == repo.resolve()
