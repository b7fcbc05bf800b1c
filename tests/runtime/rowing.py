"""What tests of states that are kept as rows share."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from refold import App
from refold.view.api import Views
from tests.conftest import Log
from tests.runtime.bank import Balance, bank

Hook: TypeAlias = Callable[[], Any]


def rows_bank(log: Log, **options: Any) -> App:
    return bank(log, **{"rows": [Balance]} | options)


def views_of(app: App) -> Views:
    return app._now.rows.books.views


def before_append(app: App, monkeypatch: pytest.MonkeyPatch, hook: Hook, *, once: bool = True) -> list[int]:
    """Have something happen just before rows are written with events; return what counts those writes."""
    views, tries = views_of(app), [0]
    append = views.append

    async def meddled(*args: Any, **options: Any) -> Any:
        tries[0] += 1
        if tries[0] == 1 or not once:
            await hook()
        return await append(*args, **options)

    monkeypatch.setattr(views, "append", meddled)
    return tries


async def agree(app: App, *states: str) -> None:
    """Every row is what its events add up to."""
    for state in states or ("Balance",):
        assert await app.operations.differences(state) == []
