"""Finding events by words, ids and causes: the same with an index, without one, and while it lags."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from refold import App, InvalidQuery
from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.runtime import index, scan
from refold.runtime.ids import new_id, time_of
from refold.runtime.index import Findings, Index
from refold.runtime.indexing import indexed
from refold.runtime.upkeep import Upkeep
from refold.store.api import Store
from tests.conftest import Log
from tests.runtime.clicks import Clicked, Clicks, clicks

ON_POSTGRES = True
WORDS = ("tea", "Tea", "teapot", "green tea", "thé", "緑茶", "o-1", "12.50", "a_b", "O'Brien", "\0", '\\ " <b>')


def event(data: object, type: str = "Noted", tags: Sequence[str] = (), **metadata: object) -> NewEvent:
    return NewEvent(type, msgspec.json.encode(data), tuple(tags), 1, msgspec.json.encode(metadata) if metadata else b"")


def positions(found: Findings) -> list[int]:
    return [each.position for each in found.events]


def waiting(app: App) -> Upkeep:
    """Return what keeps the index of an app up."""
    return app._now.upkeeps["LogIndex"]  # pyright: ignore[reportPrivateUsage]


async def test_words_ids_and_causes(log: Log) -> None:
    async with clicks(log, index=True) as app:
        assert app.index.kept
        assert "LogIndex" in {each.name for each in await app.operations.standing()}
        first = await app.record(Clicked("home"), actor="ann", correlation_id="story-1", extra={"till": "north 7"})
        second = await app.record(Clicked("about us", 12), Clicked("home"), correlation_id="story-1")
        unknown = (await app.log.append([event({"any": ["Thé", {"x": 1.50}]}, "Of.Others", ["page:home", "x:y"])])).last
        await app.settle()
        for find in (app.index, Index(app.log), Index.beside(app.log)):
            for words, found in {
                "home": [unknown, second, first],
                "HOME clicked": [second, first],
                '"page about us" 12': [second - 1],
                "ann": [first],
                "north 7": [first],
                "the": [unknown],
                "1.5": [unknown],
                "of.others": [unknown],
                "story-1": [second, second - 1, first],
                "nothing": [],
            }.items():
                answer = await find.search(words)
                assert (positions(answer), answer.complete, answer.after) == (found, True, 0), words
            assert positions(await find.search()) == [unknown, second, second - 1, first]
            assert positions(await find.search("home", limit=2)) == [unknown, second]
            [stored] = (await find.search("ann")).events
            own = indexed(stored)
            assert await find.event(own.event_id) == stored
            assert positions(await find.search(own.event_id)) == [first]
            assert await find.event("nobody's") is None
            assert await find.at(first) == stored
            assert (await find.at(0), await find.at(unknown + 1)) == (None, None)
            story = await find.correlated("story-1")
            assert (positions(story), story.complete) == ([first, second - 1, second], True)
            assert positions(await find.correlated("story-1", after=first)) == [second - 1, second]
            assert positions(await find.caused_by("nothing")) == []
            assert positions(await find.caused_by("")) == []
        some = await app.index.correlated("story-1", limit=1)
        assert (positions(some), some.complete) == ([first], False)
        assert positions(await app.index.correlated("story-1", after=some.upto)) == [second - 1, second]
        # The log has no beginning to look from, for what does not say when it was made.
        some = await Index(app.log).correlated("story-1", limit=1)
        assert (positions(some), some.after, some.complete) == ([second], second - 1, False)
        caused = await app.record(Clicked("later"), causation_id=own.event_id)
        for find in (app.index, Index(app.log)):  # which has it, or has not come to it
            assert positions(await find.caused_by(own.event_id)) == [caused]
            assert positions(await find.search(own.event_id)) == [caused, first]


async def test_filters_combine(log: Log) -> None:
    async with clicks(log, index=True) as app:
        await app.log.append(
            [
                event({"of": "tea"}, "Placed", ["order:1", "customer:a"]),
                event({"of": "tea"}, "Paid", ["order:1", "customer:a"]),
                event({"of": "tea"}, "Placed", ["order:2", "customer:b"]),
                event({"of": "cake"}, "Placed", ["order:1"]),
                event({"of": "tea"}, "placed", ["ORDER:1"]),
            ]
        )
        await app.settle()
        for find in (app.index, Index(app.log)):
            for query, found in (
                (Query.of(types=["Placed"]), [3, 1]),
                (Query.of(types=["Placed", "Paid"]), [3, 2, 1]),
                (Query.of(tags=["order:1"]), [2, 1]),
                (Query.of(types=["Placed"], tags=["order:1", "customer:a"]), [1]),
                (Query((QueryItem((), ("customer:a",)), QueryItem((), ("customer:b",)))), [3, 2, 1]),
                (Query.of(tags=["order:9"]), []),
            ):
                assert positions(await find.search("tea", query=query)) == found
            tea = Query.of(types=["Placed"])
            assert positions(await find.search("tea", query=tea, upto=2)) == [1]
            assert positions(await find.search("tea", backwards=False, limit=3)) == [1, 2, 3]
            assert positions(await find.search("tea", query=tea, after=1)) == [3]
        with pytest.raises(InvalidQuery, match="no word to search for"):
            await app.index.search("*** !")
        with pytest.raises(InvalidQuery, match="the limit is 1,000"):
            await app.index.search("x" * 2_000)


async def test_recorded_times(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    async with clicks(f"sqlite:///{tmp_path}/log.db", index=True, clock=lambda: now) as app:
        for hour in range(4):
            now = datetime(2026, 3, 1, 12 + hour, tzinfo=UTC)
            await app.record(Clicked("home"))
        await app.settle()
        for find in (app.index, Index(app.log)):
            found = await find.search("home", since=now - timedelta(hours=3), until=now - timedelta(hours=1))
            assert (positions(found), found.after, found.upto) == ([3, 2], 1, 3)
            assert positions(await find.search(until=now - timedelta(days=1))) == []


async def test_whatever_is_sought_in_whatever_is_there(log: Log) -> None:
    """What the index finds is what going through the whole log finds, of any words, tags, ids and bounds."""
    chance = random.Random(5)
    events = [
        event(
            {"a": [chance.choice(WORDS) for _ in range(chance.randrange(3))], "b": {"c": chance.choice(WORDS)}},
            chance.choice(["Placed", "Paid off"]),
            chance.sample(["x:tea", "x:緑", "y:1", 'q:"', "z:a b"], chance.randrange(3)),
            event_id=new_id(),
            correlation_id=chance.choice(["s-1", "緑", "x" * 300, "x" * 301, "nul\0"]),
        )
        for _ in range(150)
    ]
    events += [NewEvent("Raw", b"\xff\x00", ("y:1",)), NewEvent("Deep", b"[" * 5_000 + b"]" * 5_000)]
    async with clicks(log, index=True) as app:
        await app.log.append(events[:100])
        await app.settle()
        await waiting(app).stop()  # the index lags from now on
        await app.log.append(events[100:])
        for _ in range(80):
            words = " ".join(chance.sample([*WORDS[:-2], "te*", '"green tea"', "x", "s-1", "raw"], chance.randrange(3)))
            items = [
                QueryItem(
                    tuple(chance.sample(["Placed", "Paid off", "Raw"], 2)), tuple(chance.sample(["y:1", 'q:"'], 1))
                )
                for _ in range(chance.randrange(3))
            ]
            bounds = {
                "query": Query(tuple(items)),
                "upto": chance.randrange(160),
                "limit": chance.choice([3, 500]),
                "backwards": chance.random() < 0.7,
            }
            kept, plain = await app.index.search(words, **bounds), await Index(app.log).search(words, **bounds)  # type: ignore[arg-type]
            assert positions(kept) == positions(plain), (words, bounds)
            assert kept.complete == plain.complete or len(kept.events) == bounds["limit"]
        for value in ("s-1", "緑", "x" * 300, "x" * 301, "nul\0", "x" * 200):
            kept, plain = (
                await app.index.correlated(value, limit=500),
                await Index(app.log).correlated(value, limit=500),
            )
            assert positions(kept) == positions(plain)
        assert not await app.operations.parked()


async def test_a_scan_ends_and_says_how_far_it_came(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log, index=True) as app:
        await app.record(Clicked("needle"))
        for _ in range(3):
            await app.log.append([event({"n": n}) for n in range(1_000)])
        await app.settle()
        find = Index(app.log)
        monkeypatch.setattr(index, "LOOK_SECONDS", 0.0)
        found = await find.search("needle")
        assert not found.complete
        assert 1 < found.after < found.upto == 3_001
        rounds = 1
        while not found.complete:
            found = await find.search("needle", upto=found.after)
            rounds += 1
        assert (positions(found), found.after) == ([1], 0)
        assert rounds > 2
        assert (await find.event("nowhere")) is None
        assert not (await find.correlated("nowhere")).complete
        # What the index has not come to is not passed over, however little time there is.
        await waiting(app).stop()
        for _ in range(3):
            await app.log.append([event({"n": n}) for n in range(1_000)])
        await app.log.append([event({"n": "thorn"})])
        for _ in range(3):
            await app.log.append([event({"n": n}) for n in range(1_000)])
        monkeypatch.setattr(index, "GLANCE_SECONDS", -1.0)
        thorns = list[int]()
        found = await app.index.search("thorn")
        assert not found.complete
        while not found.complete:
            found = await app.index.search("thorn", upto=found.after)
            thorns += positions(found)
        assert thorns == [6_002]
        await waiting(app).start()
        await app.settle()
        # The index is asked in one go, for what the log was not looked through.
        monkeypatch.setattr(index, "GLANCE_SECONDS", 0.0)
        monkeypatch.setattr(index, "LOOK_SECONDS", 5.0)
        found = await app.index.search("needle")
        assert (positions(found), found.complete) == ([1], True)


async def test_an_id_says_from_when_on_to_look(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an index an id is looked for from when it was made, not through the whole log."""
    looked: list[int] = []
    real = scan.with_id

    def with_id(*args: object) -> object:
        meets = real(*args)  # type: ignore[arg-type]

        def counting(stored: StoredEvent) -> bool:
            looked.append(stored.position)
            return meets(stored)

        return counting

    long_ago = datetime.now(UTC) - timedelta(days=30)
    clock = [long_ago]
    from refold.store.open import open_store

    store: Store = await open_store(log, clock=lambda: clock[0]) if isinstance(log, str) else log
    async with clicks(store, clock=lambda: clock[0]) as app:
        await app.log.append([event({"n": n}) for n in range(500)])
        clock[0] = datetime.now(UTC)
        at = await app.record(Clicked("home"), correlation_id=(correlation := new_id()))
        monkeypatch.setattr(index, "with_id", with_id)
        found = await app.index.correlated(correlation)
        assert positions(found) == [at]
        if isinstance(log, str):
            assert looked == [at]
            assert (found.after, found.complete) == (at - 1, False)
    if isinstance(log, str):
        await store.close()


def test_when_an_id_was_made() -> None:
    made = time_of(new_id())
    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < 5
    assert time_of("o-1") is None
    assert time_of("4c1f7a52-4a3b-4c6e-8a0e-0d3f1f2a9b11") is None


async def test_the_index_is_a_projection_to_operators_only(log: Log) -> None:
    async with clicks(log, Clicks, index=True) as app:
        at = await app.record(Clicked("home"))
        assert set(app.views) == {Clicks}
        assert app.describe()["projections"] == ["Clicks"]
        await waiting(app).stop()
        await app.wait(at)  # which is for what a program reads: it waits for no index
        await waiting(app).start()
        await app.operations.rebuild("LogIndex", workers=2)
        await app.settle()
        assert positions(await app.index.search("home")) == [at]
        async with app.passive() as other:
            assert other.index.kept
            assert positions(await other.index.search("home")) == [at]
            assert positions(await Index.beside(app.log).search("home")) == [at]
