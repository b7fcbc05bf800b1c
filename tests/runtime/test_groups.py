"""Parked events by what went wrong, and which of them somebody means."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from refold import InvalidQuery
from refold.runtime.books import Parked
from refold.runtime.groups import Which, groups
from refold.runtime.parking import said

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def divide(by: int) -> float:
    return 1 / by


def look_up(name: str) -> int:
    return {"a": 1}[name]


def parked(subscription: str, position: int, key: str, error: BaseException | None, **more: Any) -> Parked:
    text = "" if error is None else "".join(traceback.format_exception(error))
    row = Parked(subscription, position, f'["{key}"]', "Placed", NOON, NOON + timedelta(seconds=position))
    return replace(row, error=said(error) if error else "", traceback=text, **more)


def raised(function: Callable[[Any], object], value: object) -> BaseException:
    try:
        function(value)
    except Exception as error:
        return error
    raise AssertionError


ROWS = [
    parked("Orders@v1", 1, "order:a", raised(look_up, "b"), retry_at=NOON, attempts=2),
    parked("Orders@v1", 2, "order:a", None),
    parked("Orders@v1#0/4", 3, "order:c", raised(look_up, "c 17"), attempts=5),
    parked("Orders@v1", 4, "order:d", raised(divide, 0)),
    parked("mail", 4, "order:d", raised(look_up, "d")),
]


def test_what_has_one_cause_is_one_group_whatever_the_values() -> None:
    first, *others = groups(ROWS)
    assert (first.name, first.count, first.behind, first.positions) == ("Orders", 2, 1, (1, 3))
    assert (first.error, first.attempts, first.retry_at) == ("KeyError('b')", 5, NOON)
    assert first.since == NOON + timedelta(seconds=1)
    assert [(each.name, each.error, each.count) for each in others] == [
        ("Orders", "ZeroDivisionError('division by zero')", 1),
        ("mail", "KeyError('d')", 1),
    ]


def test_which_are_meant() -> None:
    first = groups(ROWS)[0]

    def meant(**which: Any) -> list[tuple[str, int]]:
        return [(each.subscription.partition("@")[0], each.position) for each in Which(**which).among(ROWS)]

    assert meant(group=first.id) == [("Orders", 1), ("Orders", 3)]
    assert meant(of="mail") == [("mail", 4)]
    assert meant(positions=(4,)) == [("Orders", 4), ("mail", 4)]
    assert meant(positions=(2,)) == [("Orders", 2)], "by its position also what waits"
    assert meant(key="order:a") == [("Orders", 1)]
    assert meant(of="Orders", positions=(4,)) == [("Orders", 4)]
    assert len(meant(all=True)) == 4
    with pytest.raises(InvalidQuery, match="say which"):
        Which().check()
