"""A daemon from its settings to its end, with HTTP beside it: what `reconciler serve` runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler import __version__
from reconciler.app import config as settings
from reconciler.app.config import Config
from reconciler.app.config_model import HttpSettings
from reconciler.app.config_values import listen as to_listen
from reconciler.app.daemon import Daemon, Parts
from reconciler.app.lock import applying
from reconciler.app.system import Reactions, Supervisor, inherited_sockets, signals
from reconciler.converge import access
from reconciler.errors import LeaseLost, SettingsFault, StoreBusy
from reconciler.http import app, server
from reconciler.http.ports import Health, Readiness
from reconciler.kit.secret import Secret
from reconciler.record import age
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, open_state
from reconciler.telemetry import logs

log = logs.get("reconciler.http")
_STALE = 30.0
"""A heartbeat older than this, in seconds, means that the loop does not turn."""


@dataclass
class Window:
    """The running daemon as the HTTP layer sees it."""

    daemon: Daemon
    started: float = field(default_factory=time.monotonic)

    def healthy(self) -> Health:
        """As `ports.Daemon`."""
        age = asyncio.get_running_loop().time() - self.daemon.beat if self.daemon.beat else 0.0
        return Health(age < _STALE, "" if age < _STALE else f"the loop has not turned for {age:.0f} seconds")

    def ready(self) -> Readiness:
        """As `ports.Daemon`."""
        reasons = []
        if not self.daemon.lease.held:
            reasons.append("the lease is not held")
        if not self.daemon.settled:
            reasons.append("interrupted work is not settled")
        reasons += [
            f"fleet {name} has no revision yet"
            for name, fleet in self.daemon.fleets.items()
            if fleet.target is None
        ]
        return Readiness(not reasons, tuple(reasons))

    def metrics(self) -> tuple[bytes, str]:
        """As `ports.Daemon`."""
        return self.daemon.meter.render()

    def fleets(self) -> list[str]:
        """As `ports.Daemon`."""
        return list(self.daemon.fleets)

    def branch(self, fleet: str) -> str:
        """As `ports.Daemon`."""
        return self.daemon.fleets[fleet].spec.branch

    def webhook_secret(self, fleet: str) -> Sequence[Secret] | None:
        """As `ports.Daemon`."""
        return self.daemon.config.fleet(fleet).webhook_secret

    def look(self, fleet: str, cause: str) -> None:
        """As `ports.Daemon`."""
        self.daemon.look(fleet, "webhook")


def serve(
    state: Path,
    given: Path | None,
    fleet: Path | None,
    branch: str,
    subpath: str,
    listen: str | None,
    log_format: str | None,
) -> int:
    """Run a daemon until it is told to stop; the exit code. SettingsFault, StoreFault's leaves, LeaseLost."""
    configured = _configured(state, given, fleet, branch, subpath, listen)
    sockets = inherited_sockets()
    supervisor = Supervisor.of()
    redact = Redactor()
    form = log_format or configured.log.format
    logs.configure("json" if form == "json" else "text", configured.log.level, redact=redact)
    for problem in configured.warnings:
        log.warning(str(problem))
    with open_state(state) as store, _hold(state, supervisor):
        _watch_points(store)
        redact.add(*store.read(access.every_password), *store.read(age.recorded_texts))
        http_sockets = sockets.get("http") or sockets.get("unknown") or []

        async def listening(daemon: Daemon) -> None:
            if configured.http is None and not http_sockets:
                await asyncio.Event().wait()
                return
            address = str(configured.http.listen) if configured.http else ""
            await server.serve(app.build(Window(daemon), heard=daemon.meter.webhook), address, http_sockets)

        async def live() -> None:
            parts = Parts(supervisor=supervisor, reload=_reload, serve=listening, redact=redact)
            daemon = Daemon(state, store, configured, parts)
            reactions = Reactions(daemon.stop, daemon.stop_at_once, lambda: log.info(daemon.reload()))
            with signals(asyncio.get_running_loop(), reactions):
                log.info("starting", version=__version__, state=str(state), pid=os.getpid())
                await daemon.run()
            log.info("stopped")

        try:
            asyncio.run(live())
        except LeaseLost as fault:
            log.critical(fault.message)
            return 1
    return 0


def _configured(
    state: Path, given: Path | None, fleet: Path | None, branch: str, subpath: str, listen: str | None
) -> Config:
    path = None if fleet is not None and given is None else settings.find(given, state)
    if path is None and fleet is None and (named := os.environ.get("RECONCILER_FLEET")):
        # what the other verbs work on; it must not hide the settings of this daemon
        fleet = Path(named)
    if path is not None:
        found = settings.load(path)
    elif fleet is not None:
        found = Config.default(fleet, branch=branch, subpath=subpath)
    else:
        raise SettingsFault(
            "there is no settings file and no fleet to serve",
            hint="reconciler serve --fleet DIR, or write the settings (docs/daemon.md)",
        )
    if listen is not None:
        try:
            found = replace(found, http=HttpSettings(listen=to_listen(listen)))
        except ValueError as fault:
            raise SettingsFault(f"--listen {listen}: {fault}") from None
    return found


def _reload(config: Config) -> Config:
    answer = settings.reload(config)
    (log.error if answer.fault else log.info)(str(answer))
    return answer.config


class _hold:  # noqa: N801 - reads as the function that it is
    """The state directory's apply lock, waited for: another daemon, or a command, may have it for a while."""

    def __init__(self, state: Path, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor

    def __enter__(self) -> None:
        told = ""
        while True:
            self._held = applying(self._state, daemon=True)
            try:
                self._held.__enter__()
            except StoreBusy as fault:
                if fault.message != told:
                    told = fault.message
                    log.info("waiting", why=told)
                    self._supervisor.status(f"waiting: {told}")
                time.sleep(0.2)
                continue
            return

    def __exit__(self, *details: object) -> None:
        self._held.__exit__(None, None, None)


def _watch_points(store: Store) -> None:
    """For tests: `RECONCILER_KILL_AT=N` ends the process with SIGKILL at the N-th point of its writes."""
    wanted = os.environ.pop("RECONCILER_KILL_AT", "")
    if not wanted.isdigit():
        return
    left = int(wanted)

    def point(name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store.watch(point)
