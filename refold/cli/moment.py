"""Times on the command line: ISO 8601; without a zone they are UTC.

A day alone means its end where it is asked up to when; when something happened, a day does not say.
"""

from datetime import UTC, date, datetime, time
from typing import Any

import click


class Moment(click.ParamType[Any]):
    """Parses a time, or where positions are welcome too a position."""

    name = "time"

    def __init__(self, *, or_position: bool = False, or_day: bool = True) -> None:
        self._or_position = or_position
        self._or_day = or_day

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a time with a zone, or a position."""
        if not isinstance(value, str):
            return value
        if self._or_position and value.isdecimal():
            return int(value)
        try:
            moment = datetime.combine(date.fromisoformat(value), time.max)
        except ValueError:
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                also = " or a position" if self._or_position else ""
                day = "2026-03-01 or " if self._or_day else ""
                self.fail(f"{value!r} is not a time{also}: write {day}2026-03-01T12:00:00+01:00", param, ctx)
        else:
            if not self._or_day:
                self.fail(f"{value!r} is a whole day: write at what time, as in {value}T12:00:00+01:00", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MOMENT = Moment()
MOMENT_OF_FACT = Moment(or_day=False)
MOMENT_OR_POSITION = Moment(or_position=True)
