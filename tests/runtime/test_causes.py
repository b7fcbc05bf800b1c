"""What caused what: every event of a correlation is in its tree once, below what led to it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import NewEvent, Query
from refold.bus.memory import MemoryBus
from refold.model.record import Metadata
from refold.runtime import causes as limits
from refold.runtime.books import PARKED, SKIPPED, TIMERS
from refold.runtime.causes import Cause, Causes
from refold.store.api import Store
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing import Clock
from refold.view.table import Table
from tests.conftest import Log
from tests.runtime.causing import Place, Placed, Reserved, billing, shop

ON_POSTGRES = True
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = "subscription, position, key"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def store(log: Log, clock: Clock) -> AsyncIterator[Store]:
    store = await open_store(log, clock=clock) if isinstance(log, str) else MemoryStore(clock=clock)
    yield store
    await store.close()


def told(causes: Causes | None) -> list[str]:
    """Return a tree as people would write it."""
    assert causes is not None
    check(causes)
    return [f"{'  ' * node.depth}{' '.join(filter(None, (node.kind, node.name, node.by)))}" for node in causes.nodes]


def check(causes: Causes) -> None:
    """Each node stands behind its parent, one deeper, and everything between them is below the parent."""
    path: list[Cause] = []
    for node in causes.nodes:
        del path[node.depth :]
        assert node.parent == (path[-1].id if path else "")
        assert node.depth == len(path)
        path.append(node)
    ids = [node.id for node in causes.nodes]
    assert len(ids) == len(set(ids))


def positions(causes: Causes | None) -> list[int]:
    assert causes is not None
    return [node.position for node in causes.nodes if node.kind == "event"]


ORDER = [
    "command Place",
    "  event Placed",
    "    command Reserve process fulfil",
    "      event Reserved",
    "    command Reserve process fulfil",
    "      event Reserved",
    "    command Pay process bill",
    "      event Paid",
    "        command Ship process deliver",
    "          event Shipped",
    "            command NoteMail effect send_mail",
    "              event Mailed",
]


@pytest.mark.parametrize("index", [False, True])
async def test_from_any_event_the_whole_tree_is_told(store: Store, clock: Clock, index: bool) -> None:
    async with shop(store, clock=clock, index=index) as app:
        await app.execute(Place("o-1", lines=2), actor="ann")
        await app.execute(Place("o-2"))
        await app.settle()
        of_first = [each.position async for each in app.events(Query.of(tags=["order:o-1"]))]
        assert len(of_first) == 6
        trees = [await app.causes(position) for position in of_first]
        assert trees[0] is not None
        # Side by side things are recorded in no certain order.
        assert sorted(told(trees[0])) == sorted(ORDER)
        for tree in trees:
            assert told(tree) == told(trees[0])
            assert tree is not None
            assert tree.complete
            assert sorted(positions(tree)) == of_first
        root, placed = trees[0].nodes[:2]
        assert (root.actor, placed.tags, placed.at) == ("ann", ("order:o-1", "customer:c-1"), NOON)
        assert await app.causes(0) is None
        assert await app.causes(999) is None


async def test_what_has_failed_waits_or_was_skipped_is_marked(store: Store, clock: Clock) -> None:
    async with shop(store, clock=clock) as app:
        await app.execute(Place("bad-1"))
        await app.settle(parked=True)
        tree = await app.causes(1)
        assert sorted(told(tree)) == sorted(
            [
                "command Place",
                "  event Placed",
                "    command Reserve process fulfil",
                "      event Reserved",
                "    failed bill",
                "    waiting Expire fulfil",
            ]
        )
        assert tree is not None
        marks = {node.kind: node for node in tree.nodes if node.kind in ("failed", "waiting")}
        assert "no money" in marks["failed"].trouble
        assert marks["failed"].is_stuck
        assert (marks["waiting"].at, marks["waiting"].is_stuck, marks["waiting"].trouble) == (NOON + HOUR, False, "")
        narrowed = await app.causes(1, query=Query.of(tags=["order:bad-1"]))
        assert narrowed is not None
        assert [node.trouble for node in narrowed.nodes if node.kind == "failed"] == [""], "it may tell of others"
        [parked] = await app.operations.parked()
        await app.operations.skip(parked, reason="no use", actor="ann")
        tree = await app.causes(1)
        assert tree is not None
        [skipped] = [node for node in tree.nodes if node.kind == "skipped"]
        assert (skipped.by, skipped.trouble, skipped.is_stuck) == ("bill", "no use (skipped by ann)", False)


async def test_a_timer_is_in_the_tree_whatever_becomes_of_it(store: Store, clock: Clock) -> None:
    async with shop(store, clock=clock) as app:
        for order in ("expires", "late"):
            await app.execute(Place(order))
        await app.settle()
        both = {
            order: (await anext(app.events(Query.of(tags=[f"order:{order}"])))).position
            for order in ("expires", "late")
        }
        clock.advance(HOUR)
        await app.settle(parked=True)
        done = told(await app.causes(both["expires"]))
        assert done[done.index("    command Expire timer fulfil") + 1] == "      event Expired"
        late = await app.causes(both["late"])
        assert late is not None
        [failed] = [node for node in late.nodes if node.kind == "failed"]
        assert (failed.name, failed.by, failed.is_stuck) == ("Expire", "fulfil", True)
        assert "too late" in failed.trouble
    async with shop(store, clock=clock).passive() as app:
        clock.advance(HOUR)
        await app.execute(Place("o-3"))
    async with shop(store, clock=clock, processes=[]).passive() as app:
        assert await app.causes(both["late"]) is not None, "also by a program that lacks the process"


@pytest.mark.parametrize(("table", "order"), [(TIMERS, "process, name"), (PARKED, KEY), (SKIPPED, KEY)])
async def test_what_has_not_come_of_events_is_sought_by_position(tmp_path: Path, table: Table, order: str) -> None:
    async with shop(f"sqlite:///{tmp_path}/log.db"):
        pass
    database = apsw.Connection(str(tmp_path / "log.db"))
    sql = f"EXPLAIN QUERY PLAN SELECT * FROM view_{table.stored} WHERE position IN (?, ?) ORDER BY {order} LIMIT 9"
    plan = [row[-1] for row in database.execute(sql, (1, 2))]
    assert plan[0] == f"SEARCH view_{table.stored} USING INDEX view_{table.stored}_position (position=?)"
    database.close()


async def test_a_timer_that_nobody_executes_is_stuck(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    async with shop(store, clock=clock) as app:
        await app.execute(Place("expires"))
        await app.settle()
    clock.advance(2 * HOUR)
    async with shop(store, clock=clock).passive() as app:
        tree = await app.causes(1)
        assert tree is not None
        [waiting] = [node for node in tree.nodes if node.kind == "waiting"]
        assert waiting.is_stuck
        assert "overdue" in waiting.trouble


async def test_what_comes_from_another_context_begins_elsewhere(store: Store) -> None:
    bus = MemoryBus()
    async with (
        shop(MemoryStore(), name="shop", bus=bus, outbox=[Placed]) as one,
        billing(store, bus=bus) as other,
    ):
        await one.execute(Place("o-1"))
        await one.settle()
        recorded = await anext(aiter(other.follow()))
        [placed] = [each async for each in one.events(Placed)]
        tree = await other.causes(recorded.position)
        assert told(tree) == [
            f"elsewhere {placed.metadata.event_id} shop",
            "  command Owe inbox shop/owing",
            "    event Owed",
        ]


async def test_commands_of_one_correlation_are_side_by_side(store: Store) -> None:
    async with shop(store, processes=[], effects=[]) as app:
        await app.execute(Place("o-1"), correlation_id="checkout", id="first")
        first = await anext(app.events())
        await app.execute(Place("o-2"), correlation_id="checkout")
        await app.execute(Place("o-3"), correlation_id="checkout", causation_id=first.metadata.event_id)
        await app.execute(Place("o-4"), correlation_id="checkout", causation_id=first.metadata.event_id)
        await app.execute(Place("o-5"), correlation_id="checkout", causation_id="invoice-7")
        await app.record(Placed("o-6", "c-1"), correlation_id="checkout")
        await app.record(Placed("o-7", "c-1"), Placed("o-8", "c-1"), correlation_id="checkout", id="file-3")
        tree = await app.causes(3)
        assert told(tree) == [
            "command Place",
            "  event Placed",
            "    command Place call",
            "      event Placed",
            "    command Place call",
            "      event Placed",
            "command Place",
            "  event Placed",
            "elsewhere invoice-7",
            "  command Place call",
            "    event Placed",
            "event Placed",
            "command",
            "  event Placed",
            "  event Placed",
        ]
        assert tree is not None
        assert tree.complete


def legacy(name: str, position: int, cause: str = "", correlation: str = "", **more: Any) -> NewEvent:
    """Return an event as one was stored before commands were named."""
    metadata = Metadata(event_id=name, correlation_id=correlation, causation_id=cause, **more)
    data = msgspec.json.encode(Reserved(f"o-{position}", position))
    return NewEvent("Reserved", data, (f"order:o-{position}",), 1, msgspec.json.encode(metadata))


async def test_old_events_are_put_together_by_their_cause(store: Store) -> None:
    await store.append(
        [
            legacy("a", 1, "root", "root"),
            legacy("b", 2, "a", "root"),
            legacy("c", 3, "a", "root"),
            legacy("d", 4, "c", "root"),
        ]
    )
    async with shop(store, processes=[], effects=[]) as app:
        for position in (1, 4):
            assert told(await app.causes(position)) == [
                "command",
                "  event Reserved",
                "    command",
                "      event Reserved",
                "      event Reserved",
                "        command",
                "          event Reserved",
            ]


@pytest.mark.parametrize("index", [False, True])
async def test_what_was_recorded_without_metadata_has_consequences(store: Store, clock: Clock, index: bool) -> None:
    await store.append([NewEvent("Placed", b'{"order_id":"o-1","customer":"c-1"}', ("order:o-1",))])
    async with shop(store, clock=clock, index=index) as app:
        await app.settle()
        tree = await app.causes(1)
        assert told(tree)[0] == "event Placed"
        assert sorted(told(tree)[1:]) == sorted(line[2:] for line in ORDER[4:])
        assert sorted(positions(tree)) == list(range(1, await app.head() + 1))
        assert told(await app.causes(await app.head())) == told(tree)


async def test_metadata_that_cannot_be_read_are_none(store: Store) -> None:
    await store.append([NewEvent("Placed", b"{}", ("order:o-1",), 1, b"nonsense")])
    async with shop(store, processes=[], effects=[], projections=[]) as app:
        assert told(await app.causes(1)) == ["event Placed"]


async def test_events_of_their_own_causes_are_told_once(store: Store) -> None:
    circle = [legacy("a", 1, "b", "x"), legacy("b", 2, "a", "x"), legacy("c", 3, "c", "x"), legacy("a", 4, "d", "x")]
    await store.append(circle)
    async with shop(store, processes=[], effects=[]) as app:
        assert sorted(positions(await app.causes(2))) == [1, 2, 3, 4]


@pytest.mark.parametrize("index", [False, True])
async def test_only_what_matches_is_shown(store: Store, index: bool) -> None:
    async with shop(store, index=index, effects=[]) as app:
        await app.execute(Place("o-1", customer="c-1"))
        await app.settle()
        paid = next(each.position for each in [e async for e in app.events()] if type(each.event).__name__ == "Paid")
        placed = await app.causes(1, query=Query.of(tags=["customer:c-1"]))
        assert [line for line in told(placed) if "event" in line] == ["  event Placed"]
        assert await app.causes(paid, query=Query.of(tags=["customer:c-1"])) is None
        without = told(await app.causes(paid, query=Query.of(types=["Paid"])))
        assert without[1:] == ["  command Pay process bill", "    event Paid"]
        assert without[0].startswith("elsewhere "), "that there is a cause is said"


async def test_a_tree_is_bounded_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 20)
    events = [legacy("e0", 0, "root", "root"), *(legacy(f"e{n}", n, f"e{n - 1}", "root") for n in range(1, 50))]
    await store.append(events)
    async with shop(store, processes=[], effects=[]) as app:
        for position in (1, 50):
            tree = await app.causes(position)
            assert tree is not None
            check(tree)
            assert len(positions(tree)) == 20
            assert not tree.complete
            assert position in positions(tree)


async def test_a_chain_may_be_as_long_as_a_tree_is_large(store: Store) -> None:
    events = [legacy("e0", 0, "root", "root"), *(legacy(f"e{n}", n, f"e{n - 1}", "root") for n in range(1, 1000))]
    await store.append(events)
    async with shop(store, processes=[], effects=[]) as app:
        start = time.process_time()
        tree = await app.causes(1000)
        assert tree is not None
        assert (len(positions(tree)), tree.complete, tree.nodes[-1].depth) == (1000, True, 1999)
        assert time.process_time() - start < 5


LINKS = st.lists(
    st.tuples(
        st.integers(-3, 15),  # what has caused it: one before, itself or after; below 0 nothing, or something unknown
        st.sampled_from(["x", "x", "x", "y", ""]),
        st.sampled_from([("", ""), ("Pay", "process bill/1"), ("Pay", "process bill/2"), ("Pay", ""), ("", "call 1")]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(LINKS, st.integers(1, 14), st.booleans())
def test_every_event_of_a_correlation_is_told_exactly_once(
    links: list[tuple[int, str, tuple[str, str]]], asked: int, index: bool
) -> None:
    async def tell() -> None:
        store = MemoryStore()
        for number, (cause, correlation, (command, by)) in enumerate(links):
            because = {-3: "", -2: "elsewhere", -1: "other"}.get(cause, f"e{cause}")
            await store.append([legacy(f"e{number}", number, because, correlation, command=command, by=by)])
        position = min(asked, len(links))
        async with shop(store, processes=[], effects=[], index=index) as app:
            if index:
                await app.settle()
            tree = await app.causes(position)
            assert tree is not None
            check(tree)
            shown = Counter(positions(tree))
            correlation = links[position - 1][1]
            wanted = {number for number, (_, of, _) in enumerate(links, 1) if correlation and of == correlation}
            assert shown[position] == 1
            assert all(shown[each] == 1 for each in wanted)
            assert max(shown.values()) == 1
            by_id = {node.id: node for node in tree.nodes}
            for node in tree.nodes:
                if node.kind == "event" and (command := by_id.get(node.parent)) and command.parent:
                    cause = by_id[command.parent]
                    assert cause.kind == "elsewhere" or cause.position == links[node.position - 1][0] + 1

    asyncio.run(tell())
