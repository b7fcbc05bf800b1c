"""The recipe of docs/postgres.md: who may do what, and what nobody may."""

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import asyncpg
import pytest

from refold import Event, State, Tag
from refold.errors import NotAStore, StoreReadOnly, StoreTooNew, StoreTooOld, WiringError
from refold.model.record import NewEvent
from refold.store.open import check_url, open_store
from refold.store.postgres import PostgresStore, migrate, migration
from refold.testing.postgres import PostgresServer
from refold.view.api import Put
from refold.view.open import open_views
from refold.view.table import table_of

BLOCKS = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[3] / "docs" / "postgres.md").read_text(), re.DOTALL)


class Named(Event):
    item_id: Annotated[str, Tag("item")]


class Item(State):
    item_id: Annotated[str, Tag("item")]
    name: str = ""

    def evolve(self, event: Named) -> Self:
        return self


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=False) as started:
        yield started


async def connect(server: PostgresServer, user: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(f"postgresql://{user}@/postgres?host={server.folder}")


@pytest.fixture(scope="module")
def recipe(server: PostgresServer) -> None:
    asyncio.run(follow_recipe(server))


async def follow_recipe(server: PostgresServer) -> None:
    admin = await connect(server)
    await admin.execute(BLOCKS[0])
    with pytest.raises(StoreReadOnly, match="refold store migrate"):
        await PostgresStore.open(server.url(user="refold_app"))
    await admin.execute("ALTER ROLE refold_owner LOGIN")
    await migrate(server.url(user="refold_owner"))
    await admin.execute(f"SET ROLE refold_owner; {BLOCKS[1]}; RESET ROLE")
    await admin.execute(f"SET ROLE refold_app; {BLOCKS[2]}; RESET ROLE")
    await admin.close()


@pytest.mark.usefixtures("recipe")
async def test_the_app_works_with_its_role(server: PostgresServer) -> None:
    store = await PostgresStore.open(server.url(user="refold_app"))
    done = await store.append([NewEvent("A", tags=("t:1",))], append_id="a")
    assert await store.append([NewEvent("A", tags=("t:1",))], append_id="a") == done == await store.appended("a")
    assert [event.position async for page in store.read() for event in page] == [done.last]
    views, table = open_views(store), table_of(Item, "Item", ["item_id"])
    await views.create([table])
    assert await views.write([Put(table, [Item("a", "y")])])
    assert await views.append([NewEvent("A", tags=("t:2",))], append_id="b", writes=[Put(table, [Item("a", "x")])])
    report = await connect(server, "refold_report")
    assert await report.fetchval('SELECT name FROM refold_view."Item"') == "x"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await report.fetchval("SELECT count(*) FROM refold.event")
    await report.close()
    await store.close()


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE refold.event SET data = ''",
        "DELETE FROM refold.event",
        "TRUNCATE refold.event",
        "INSERT INTO refold.event VALUES (9, now(), 1, 1, 'A', '{}', '', '')",
        "DELETE FROM refold.event_tag",
        "DELETE FROM refold.append",
        "UPDATE refold.refold SET version = 0",
        "DROP TABLE refold.event",
        "ALTER TABLE refold.event DISABLE TRIGGER ALL",
        "CREATE TABLE refold.other ()",
        "SELECT refold.first_match(0, null, null, null, null)",
    ],
)
async def test_the_apps_role_cannot(server: PostgresServer, sql: str) -> None:
    app = await connect(server, "refold_app")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(sql)
    await app.close()


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize("sql", ["UPDATE {} SET position = 1", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["event", "event_tag"])
async def test_nobody_changes_an_event(server: PostgresServer, sql: str, table: str) -> None:
    for user in ("refold_owner", "postgres"):
        admin = await connect(server, user)
        if user == "postgres":
            await admin.execute("SET session_replication_role = replica")  # which turns ordinary triggers off
        with pytest.raises(asyncpg.RestrictViolationError, match="only ever added"):
            await admin.execute(sql.format(f"refold.{table}"))
        await admin.close()


async def test_several_logs_in_one_database(server: PostgresServer) -> None:
    names = ["one", "Two", 'thr"ee', "vier ü"]
    stores = [await open_store(server.url(name.replace('"', "%22").replace(" ", "%20"))) for name in names]
    for number, store in enumerate(stores):
        for _ in range(number + 1):
            await store.append([NewEvent("A")], append_id="same")
            await store.append([NewEvent("A")])
    assert [await store.head() for store in stores] == [2, 3, 4, 5]
    for store in stores:
        await store.close()


async def test_migrated_by_many_at_once(server: PostgresServer) -> None:
    code = f"import asyncio; from refold.store.postgres import migrate; asyncio.run(migrate({server.url('race')!r}))"
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", code) for _ in range(3)]
    opened = await asyncio.gather(*(PostgresStore.open(server.url("race")) for _ in range(3)))
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert await asyncio.gather(*(store.head() for store in opened)) == [0, 0, 0]
    for store in opened:
        await store.close()


async def test_what_is_not_a_log(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await connect(server)
    await admin.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.event (id int)")
    with pytest.raises(NotAStore, match="another program"):
        await PostgresStore.open(server.url("theirs"))
    with pytest.raises(NotAStore, match="no log"):
        await open_store(server.url("nothing"), create=False)
    with pytest.raises(NotAStore):
        await PostgresStore.open(server.url(database="nowhere"))
    assert not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'nothing')")
    await migrate(server.url("newer"))
    with monkeypatch.context() as patch:
        patch.setattr(migration, "MIGRATIONS", (*migration.MIGRATIONS, "SELECT 1"))
        with pytest.raises(StoreTooOld, match="refold store migrate"):
            await open_store(server.url("newer"), create=False)
    assert await admin.fetchval("SELECT version FROM newer.refold") == len(migration.MIGRATIONS)
    await admin.execute("UPDATE newer.refold SET version = 99")
    with pytest.raises(StoreTooNew):
        await PostgresStore.open(server.url("newer"))
    await admin.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d?schema=",
        "postgresql://h/d?schema=pg_x",
        "postgresql://h/d?durability=x",
        "postgresql://h/d?schema=" + "x" * 60,
    ],
)
def test_addresses_that_make_no_sense(url: str) -> None:
    with pytest.raises(WiringError):
        check_url(url)


def test_a_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("refold.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(WiringError, match=r"pip install refold\[postgres\]"):
        check_url("postgresql://h/d")
