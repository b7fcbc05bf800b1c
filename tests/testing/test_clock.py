"""The clock for tests stands still, and is in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from refold.errors import WiringError
from refold.testing import Clock


def test_it_stands_still_until_it_is_told_to_move() -> None:
    clock = Clock()
    start = clock()
    assert clock() == start
    assert clock.advance(timedelta(hours=1)) == clock() == start + timedelta(hours=1)
    clock.advance(timedelta(hours=-2))
    assert clock() == start - timedelta(hours=1)


def test_it_is_in_utc_whatever_zone_it_is_set_in() -> None:
    clock = Clock(datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    assert clock() == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert clock().tzinfo is UTC


def test_it_takes_no_time_without_a_zone() -> None:
    with pytest.raises(WiringError, match="has no time zone"):
        Clock(datetime(2026, 7, 1))
