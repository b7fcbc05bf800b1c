"""Appends that are one with changes of rows: each is done once, whatever becomes of its connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from refold.errors import StoreClosed, StoreError
from refold.model.record import NewEvent
from refold.store.api import Appended
from refold.store.postgres import PostgresStore
from refold.testing.view.tools import THING, Thing
from refold.view.api import Expect, Put
from refold.view.open import open_views
from refold.view.postgres import PostgresViews

NOTED = [NewEvent("Noted", b"1", ("t",))]
ONE, TWO = Put(THING, [Thing("a", integer=1)]), Put(THING, [Thing("a", integer=2)])


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, patience=timedelta(seconds=60))
    yield store
    await store.close()


@pytest.fixture
async def views(store: PostgresStore) -> PostgresViews:
    views = open_views(store)
    assert isinstance(views, PostgresViews)
    await views.create([THING])
    return views


def lose_the_first_answer(store: PostgresStore, monkeypatch: pytest.MonkeyPatch, meanwhile: Any = None) -> list[int]:
    """Have the connection break once, just after the commit; return what counts the transactions."""
    once, calls = store._beside._once, [0]

    async def lossy(lane: Any, connection: Any, *args: Any) -> Any:
        calls[0] += 1
        outcome = await once(lane, connection, *args)
        if calls[0] == 1:
            if meanwhile is not None:
                await meanwhile()
            connection.terminate()
            raise asyncpg.ConnectionDoesNotExistError("gone")
        return outcome

    monkeypatch.setattr(store._beside, "_once", lossy)
    return calls


async def integer(views: PostgresViews) -> int | None:
    found = await views.get(THING, [("a",)])
    return found["a",].integer if found else None


async def test_an_answer_that_is_lost_is_asked_for_again(
    store: PostgresStore, views: PostgresViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = lose_the_first_answer(store, monkeypatch)
    assert await views.append(NOTED, writes=[ONE], expects=[Expect(THING, ("a",))]) == Appended(1, 1)
    assert calls == [1]
    assert (await integer(views), await store.head()) == (1, 1)


async def test_what_others_have_made_of_it_meanwhile_stays(
    store: PostgresStore, views: PostgresViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the row is as it was before, so that what was expected holds again."""
    await views.write([ONE])

    async def back() -> None:
        await views.write([ONE], [Expect(THING, ("a",), {"integer": 2})])

    lose_the_first_answer(store, monkeypatch, back)
    assert await views.append(NOTED, writes=[TWO], expects=[Expect(THING, ("a",), {"integer": 1})]) == Appended(1, 1)
    assert (await integer(views), await store.head()) == (1, 1)


async def test_what_was_not_committed_is_done_again(
    store: PostgresStore, views: PostgresViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, calls = store._beside._once, [0]

    async def broken(lane: Any, connection: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            connection.terminate()
        return await once(lane, connection, *args)

    monkeypatch.setattr(store._beside, "_once", broken)
    assert await views.append(NOTED, writes=[ONE], expects=[Expect(THING, ("a",))]) == Appended(1, 1)
    assert calls == [2]
    assert (await integer(views), await store.head()) == (1, 1)


async def test_who_gives_up_does_not_leave_it_half_done(store: PostgresStore, views: PostgresViews) -> None:
    for number in range(20):
        task = asyncio.create_task(views.append(NOTED, writes=[Put(THING, [Thing(f"{number}")])]))
        await asyncio.sleep(number / 4000)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await store._beside.close()
    assert await store.head() == await views.count(THING, ()) == 20
    with pytest.raises(StoreClosed):
        await views.append(NOTED, writes=[ONE])


async def test_a_server_that_stays_away_leaves_it_in_doubt(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await PostgresStore.open(url, patience=timedelta(seconds=0.2))
    views = open_views(store)
    await views.create([THING])

    async def gone(*args: Any) -> Any:
        raise asyncpg.ConnectionDoesNotExistError("gone")

    monkeypatch.setattr(store._beside, "_once", gone)
    with pytest.raises(StoreError, match="whether the append was stored is not known") as error:
        await views.append(NOTED, writes=[ONE])
    assert error.value.data == {"in_doubt": True}
    await store.close()
