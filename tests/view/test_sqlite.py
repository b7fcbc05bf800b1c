"""The rows in SQLite keep the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from refold.errors import MissingCapability
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore
from refold.testing.view.tools import ONLY, OTHER, TEXT, THING, Only, Text, Thing
from refold.testing.view_contract import ViewContract
from refold.view.api import Put
from refold.view.open import open_views_at
from refold.view.sqlite import SqliteViews
from refold.view.table import table_of

BEFORE = table_of(Thing, "Noted", ["thing_id"])
NOW = table_of(Thing, "Noted", ["thing_id"], indexes=[("text",)])


class TestSqliteViews(ViewContract):
    @asynccontextmanager
    async def beside(self, tmp_path: Path) -> AsyncGenerator[tuple[SqliteStore, SqliteViews]]:
        store = await SqliteStore.open(tmp_path / "log.db")
        try:
            yield store, SqliteViews.beside(store)
        finally:
            await store.close()


async def test_what_is_exposed_goes_with_its_table(tmp_path: Path) -> None:
    """Other tools see the version that was exposed last, and nothing once its table is gone."""
    views = await open_views_at(f"sqlite:///{tmp_path / 'views.db'}")
    await views.create([THING, OTHER, TEXT])
    await views.write([Put(THING, [Thing("a", text="one")]), Put(OTHER, [Thing("a", text="two")])])
    reader = apsw.Connection(str(tmp_path / "views.db"))
    for table, text in ((THING, "one"), (OTHER, "two")):
        await views.expose(table)
        assert reader.execute("SELECT text FROM view_Thing").get == text
    await views.drop([THING.stored])
    assert reader.execute("SELECT text FROM view_Thing").get == "two"
    await views.drop([OTHER.stored, TEXT.stored])
    assert reader.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'view%'").get == 0
    reader.close()
    await views.close()


async def test_a_table_that_is_there_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    views = await open_views_at(f"sqlite:///{tmp_path / 'views.db'}")
    reader = apsw.Connection(str(tmp_path / "views.db"))
    await views.create([BEFORE])
    await views.write([Put(BEFORE, [Thing("a", "tea")])])
    for _ in range(2):
        await views.create([NOW])
    plan = [row[-1] for row in reader.execute("EXPLAIN QUERY PLAN SELECT * FROM view_Noted WHERE text IN ('tea', '')")]
    assert plan == ["SEARCH view_Noted USING INDEX view_Noted_text (text=?)"]
    assert await views.get(NOW, [("a",)]) == {("a",): Thing("a", "tea")}
    reader.close()
    await views.close()


async def test_rows_in_another_file_are_not_one_with_the_log(tmp_path: Path) -> None:
    views = await open_views_at(f"sqlite:///{tmp_path / 'views.db'}")
    await views.create([ONLY])
    with pytest.raises(MissingCapability, match="these rows are in another database than the log"):
        await views.append([NewEvent("Noted")], writes=[Put(ONLY, [Only(1)])])
    await views.close()


async def test_what_breaks_a_column_is_the_values_fault(tmp_path: Path) -> None:
    """An error that trying again does not heal is not taken for one of the file, and leaves nothing behind."""
    views = await open_views_at(f"sqlite:///{tmp_path / 'views.db'}")
    await views.create([ONLY, TEXT])
    with pytest.raises(ValueError, match="SQLite cannot keep a row of Only: cannot store REAL"):
        await views.write([Put(TEXT, [Text("a", "tea")]), Put(ONLY, [Only(1.5)])])  # type: ignore[arg-type]
    assert await views.search(TEXT, "tea", (), 1) == []
    await views.close()
