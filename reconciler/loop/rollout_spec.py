"""A Rollout's manifest as the values that waves and windows work with."""

from __future__ import annotations

from datetime import time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from reconciler.desired.scalars import seconds
from reconciler.errors import SettingsFault
from reconciler.loop.waves import Amount, RolloutSpec, WaveSpec
from reconciler.loop.windows import Window

if TYPE_CHECKING:
    from reconciler.desired.kinds import rollout

_DAYS = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}


def from_manifest(rollout_spec: rollout.RolloutSpec, name: str = "") -> RolloutSpec:
    """The spec of a valid Rollout manifest, named `name`, as values.

    Raises SettingsFault when this machine does not know a time zone that the manifest names.
    """
    return RolloutSpec(
        name=name,
        selector=dict(rollout_spec.selector),
        waves=tuple(_wave(wave) for wave in rollout_spec.waves),
        max_unavailable=Amount.parse(rollout_spec.max_unavailable),
        soak=_length(rollout_spec.soak),
        health_timeout=_length(rollout_spec.health_timeout),
        on_failure=rollout_spec.on_failure,
        windows=tuple(_window(window) for window in rollout_spec.windows),
    )


def _wave(wave: rollout.RolloutWave) -> WaveSpec:
    return WaveSpec(
        wave.name,
        dict(wave.selector),
        None if wave.max_unavailable is None else Amount.parse(wave.max_unavailable),
        None if wave.soak is None else _length(wave.soak),
    )


def _window(window: rollout.RolloutWindow) -> Window:
    return Window(
        window.name,
        window.mode,
        time.fromisoformat(window.start),
        _length(window.duration),
        _zone(window.timezone, window.name),
        frozenset(_DAYS[day] for day in window.days),
        window.overrun,
    )


def _zone(key: str, window: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    # ValueError: not a key at all; OSError: a folder of the database, such as Europe.
    except (ValueError, OSError, KeyError) as cause:
        raise SettingsFault(
            f"window {window}: this machine knows no time zone {key}",
            hint="check its spelling; if it is right, install the system's tzdata package",
        ) from cause


def _length(text: str) -> timedelta:
    return timedelta(seconds=seconds(text))
