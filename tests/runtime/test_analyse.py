"""Analytics of an open app: its events and views as Parquet files, asked in SQL."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from refold import InvalidQuery, WiringError, kept
from refold.runtime import analyse
from tests.conftest import Log
from tests.runtime.clicks import Busy, BusyPages, Clicked, Clicks, clicks


async def test_events_and_views_are_asked_in_sql(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyse, "VIEWS_SECONDS", 0.05)
    folder = tmp_path / "mirror"
    async with clicks(log, kept(Clicks, history=True), BusyPages, analytics=folder) as app:
        at = await app.record(Clicked("a", 3), Clicked("b"), Clicked("a", 4))
        answer = await app.query("select page, sum(times) from Clicked group by page order by page", at_least=at)
        assert answer.rows() == [("a", 7), ("b", 1)]
        assert answer.pl().shape == (2, 2)
        await app.settle()

        async def until(sql: str, *rows: object) -> None:
            while True:
                with suppress(InvalidQuery):  # it is not mirrored yet
                    if (await app.query(sql)).rows() == [*rows]:
                        return
                await asyncio.sleep(0.05)

        await until("select clicks from Clicks where page = 'a'", (7,))  # only the rows of now
        await until("select count(*) from Busy", (2,))
        with pytest.raises(InvalidQuery):
            await app.query("drop table Clicked")
    async with clicks(log, kept(Clicks, history=True), BusyPages, analytics=folder) as app:
        at = await app.record(Clicked("c", 5))
        assert (await app.query("select count(*) from events", at_least=at)).rows() == [(4,)]
        assert Busy
    async with clicks(log, analytics=folder).passive() as app:
        assert (await app.query("select max(times) from Clicked")).rows() == [(5,)], "read by who does not keep it up"


async def test_without_a_folder_there_is_nothing_to_ask(log: Log) -> None:
    async with clicks(log) as app:
        with pytest.raises(WiringError, match="this app has no mirror to ask: give it a folder"):
            await app.query("select 1")
