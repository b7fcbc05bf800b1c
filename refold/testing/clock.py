"""A clock that stands still until it is told to move: pass it as `clock=`."""

from datetime import UTC, datetime, timedelta

from refold.errors import WiringError

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A callable that returns the time it was set to, in UTC."""

    def __init__(self, now: datetime = START) -> None:
        self.set(now)

    def __call__(self) -> datetime:
        """Return the time."""
        return self._now

    def set(self, now: datetime) -> None:
        """Set the time, forwards or backwards; it needs a zone."""
        if now.utcoffset() is None:
            raise WiringError(f"{now} has no time zone: write datetime(…, tzinfo=UTC)")
        self._now = now.astimezone(UTC)

    def advance(self, by: timedelta) -> datetime:
        """Move on, or back if `by` is negative, and return the new time."""
        self._now += by
        return self._now
