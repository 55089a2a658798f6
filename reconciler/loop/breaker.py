"""A breaker for objects that flap: repaired again and again, they are left alone for a while, longer each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class Limits:
    """When a breaker opens and for how long. Raises ValueError for limits that could not work.

    `repairs` repairs within `within` open it for `first`. It opens for twice as long each further time, up to
    `longest`; a breaker that stayed closed for `longest` begins with `first` again.
    """

    repairs: int = 5
    within: timedelta = timedelta(hours=1)
    first: timedelta = timedelta(hours=1)
    longest: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        if self.repairs < 1 or self.within <= timedelta() or not timedelta() < self.first <= self.longest:
            raise ValueError(f"limits that no breaker can keep: {self}")

    def length(self, times: int) -> timedelta:
        """How long it stays open when it opens for the `times`-th time in a row, from 1."""
        # Doubling stops at the cap, so that no number of openings overflows.
        length = self.first
        for _ in range(times - 1):
            if length * 2 >= self.longest:
                return self.longest
            length *= 2
        return length


DEFAULT = Limits()


@dataclass(frozen=True)
class Breaker:
    """What is known of one object's repairs: a value; each method gives the next one. Times are aware, in UTC.

    A new object starts with `Breaker()`. Ask `Breaker.at(now)` before a repair and heal only if `until` is None; call
    `repaired(now)` after each corrective repair, and keep what they give.
    """

    repairs: tuple[datetime, ...] = ()
    """Repairs that still count, the oldest first; none once it has opened."""
    times: int = 0
    """How often in a row it has opened."""
    opened: datetime | None = None
    """When it opened last."""
    until: datetime | None = None
    """Open until then; None: closed."""
    closed: datetime | None = None
    """When it closed last."""

    def at(self, now: datetime, limits: Limits = DEFAULT) -> Breaker:
        """The breaker as it stands at `now`: what no longer counts is gone, and it closes when its time is over.

        Times that lie ahead of `now`, because the clock was set back, become `now`: a wrong clock neither keeps a
        breaker open for more than its time nor makes old repairs count for ever.
        """
        now = now.astimezone(UTC)
        repairs = tuple(at for at in (min(at, now) for at in self.repairs) if now - at < limits.within)
        current = replace(self, repairs=repairs)
        if current.opened is not None and current.opened > now:
            until = None if current.until is None else now + (current.until - current.opened)
            current = replace(current, opened=now, until=until)
        if current.closed is not None and current.closed > now:
            current = replace(current, closed=now)
        if current.until is not None and current.until <= now:
            current = replace(current, until=None, closed=current.until)
        if current.until is None and current.closed is not None and now - current.closed >= limits.longest:
            current = Breaker(repairs=repairs)
        return current

    def repaired(self, now: datetime, limits: Limits = DEFAULT) -> Breaker:
        """The breaker after one more corrective repair at `now`. While it is open, a repair changes nothing: a
        person's own repair is no flapping."""
        now = now.astimezone(UTC)
        current = self.at(now, limits)
        if current.until is not None:
            return current
        repairs = (*current.repairs, now)
        if len(repairs) < limits.repairs:
            return replace(current, repairs=repairs)
        times = current.times + 1
        return Breaker(times=times, opened=now, until=now + limits.length(times))

    def to_json(self) -> dict[str, object]:
        """As JSON values, for `from_json`."""
        return {
            "repairs": [at.isoformat() for at in self.repairs],
            "times": self.times,
            "opened": _text(self.opened),
            "until": _text(self.until),
            "closed": _text(self.closed),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Breaker:
        """A breaker as `to_json` gave it. Raises ValueError when it is another thing."""
        repairs, times = value.get("repairs"), value.get("times")
        if not isinstance(repairs, list) or not isinstance(times, int):
            raise ValueError(f"not a breaker: {value!r}")  # noqa: TRY004 - a wrong value, not a wrong call
        return cls(
            tuple(_time(at) for at in repairs),
            times,
            *(
                None if value.get(name) is None else _time(value[name])
                for name in ("opened", "until", "closed")
            ),
        )


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(value: object) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else None
    if at is None or at.tzinfo is None:
        raise ValueError(f"not an aware time: {value!r}")
    return at.astimezone(UTC)
