"""Rules C: when an append condition holds, when it does not, and what is left when it does not.

Between a position and the events that break a condition on it stands one that does not: so a store that is off by one
fails the rules about that, and no other.
"""

import asyncio

import pytest

from refold.errors import Conflict, InvalidEvent, PositionAhead, StoreError
from refold.model.query import AppendCondition, Query, QueryItem
from refold.store.api import Conditions, Store
from refold.testing.store.queries import CASES, PREFIXES, WILDCARDS
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, collect, data, data_of, event, fill, read, turns

T = Query.of(tags="t")


async def conflicts(store: Store, condition: Conditions) -> bool:
    """Append an event that no query here matches, and tell whether the condition refused it."""
    try:
        await store.append([event("Tried", "tried")], condition)
    except Conflict:
        return True
    return False


class ConditionRules(StoreRules):
    """When an append condition holds, when it does not, and what is left when it does not."""

    @rule()
    async def test_c1_no_condition(self, bench: Bench) -> None:
        """C1: an append without a condition always succeeds, whatever came before it."""
        store = await bench.open()
        (start,) = await fill(store, event("Noted", "n"))
        await store.append([event("Opened", "t")], AppendCondition(Query.of(types="Opened"), start))
        await store.append([event("Opened", "t")])
        await store.append([event("Opened", "t")], None)
        assert len(await read(store)) == 4

    @rule()
    async def test_c2_no_match(self, bench: Bench) -> None:
        """C2: a condition that nothing matches holds, on an empty log and on any other."""
        store = await bench.open()
        assert not await conflicts(store, AppendCondition(T))
        await fill(store, event("Noted", "n"), event("Noted", "n"))
        assert not await conflicts(store, AppendCondition(T))

    @rule()
    async def test_c3_any_match(self, bench: Bench) -> None:
        """C3: without `after` any match breaks the condition, however old."""
        store = await bench.open()
        await fill(store, event("Noted", "n"), event("Noted", "t"), event("Noted", "n"))
        assert await conflicts(store, AppendCondition(T))

    @rule()
    async def test_c4_match_at_after(self, bench: Bench) -> None:
        """C4: a match at `after` itself does not count."""
        store = await bench.open()
        at = await fill(store, event("Noted", "t"), event("Noted", "t"))
        assert not await conflicts(store, AppendCondition(T, at[1]))

    @rule()
    async def test_c5_match_next_to_after(self, bench: Bench) -> None:
        """C5: a match at the very next position counts."""
        store = await bench.open()
        at = await fill(store, event("Noted", "t"), event("Noted", "t"))
        assert await conflicts(store, AppendCondition(T, at[0]))

    @rule()
    async def test_c6_after_the_last_match(self, bench: Bench) -> None:
        """C6: `after` may be above the last match, up to the head."""
        store = await bench.open()
        at = await fill(store, event("Noted", "t"), event("Noted", "n"), event("Noted", "n"))
        assert not await conflicts(store, AppendCondition(T, at[1]))
        assert not await conflicts(store, AppendCondition(T, await store.head()))

    @rule()
    async def test_c7_after_the_head(self, bench: Bench) -> None:
        """C7: a condition on a position beyond the head is refused as that, and nothing is written."""
        store = await bench.open()
        (last,) = await fill(store, event("Noted", "n"))
        with pytest.raises(PositionAhead):
            await store.append([event("Tried")], AppendCondition(T, last + 1_000))
        with pytest.raises(PositionAhead):
            await store.append([event("Tried")], AppendCondition(Query(), last + 1_000))
        assert len(await read(store)) == 1

    @rule()
    async def test_c8_unrelated_events(self, bench: Bench) -> None:
        """C8: events that do not match do not break a condition, however new."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        assert not await conflicts(store, AppendCondition(Query.of(types="Opened"), at[0]))

    @rule()
    async def test_c9_all_events(self, bench: Bench) -> None:
        """C9: a query without items as a condition is broken by any newer event, and by no older one."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted"))
        assert await conflicts(store, AppendCondition(Query(), at[0]))
        assert not await conflicts(store, AppendCondition(Query(), at[2]))

    @rule()
    async def test_c10_nothing_is_left(self, bench: Bench) -> None:
        """C10: an append that failed leaves no event, no higher head and nothing for followers."""
        store = await bench.open()
        *_, head = at = await fill(store, *(event("Noted", tag) for tag in "nnt"))
        async with closing(store.follow()) as following:
            seen = [one.data for page in await collect(following, head) for one in page]
            task = asyncio.create_task(collect(following, head + 1))
            await turns()
            assert await conflicts(store, AppendCondition(T, at[0]))
            assert await store.head() == head
            noted = event("Noted", "t")
            await fill(store, noted)
            seen += [one.data for page in await task for one in page]
        assert seen == await data(store)
        assert seen[3:] == [noted.data]

    @rule()
    async def test_c11_nothing_of_a_batch_is_left(self, bench: Bench) -> None:
        """C11: a batch that failed leaves none of its events, and later ones are not mixed with it."""
        store = await bench.open()
        noted = [event("Noted", tag) for tag in "nntn"]
        at = await fill(store, *noted[:3])
        with pytest.raises(Conflict):
            await store.append([event("Tried", tag) for tag in "xyz"], AppendCondition(T, at[0]))
        await fill(store, noted[3])
        assert await data(store) == data_of(noted)

    @rule()
    async def test_c12_own_batch(self, bench: Bench) -> None:
        """C12: the events of a batch do not break its own condition."""
        store = await bench.open()
        (start,) = await fill(store, event("Noted", "n"))
        await store.append([event("Noted", "t") for _ in range(3)], AppendCondition(T, start))
        assert len(await read(store)) == 4

    @rule()
    async def test_c13_several_items(self, bench: Bench) -> None:
        """C13: a condition of several items is broken by a match of any of them."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        for tags in (("t", "x", "y"), ("x", "t", "y"), ("x", "y", "t")):
            query = Query(tuple(QueryItem(tags=(tag,)) for tag in tags))
            assert await conflicts(store, AppendCondition(query, at[0])), tags

    @rule()
    async def test_c14_one_of_two_tags(self, bench: Bench) -> None:
        """C14: a condition on two tags is not broken by events that have one of them."""
        store = await bench.open()
        query = Query.of(tags=["t", "u"])
        at = await fill(store, event("Noted", "n"), event("Noted", "t"), event("Noted", "u"))
        assert not await conflicts(store, AppendCondition(query, at[0]))
        await fill(store, event("Noted", "t", "u", "v"))
        assert await conflicts(store, AppendCondition(query, at[0]))

    @rule()
    async def test_c15_type_or_tag_alone(self, bench: Bench) -> None:
        """C15: a condition on a type and a tag is not broken by events that have one of them."""
        store = await bench.open()
        query = Query.of(types="Opened", tags="t")
        at = await fill(store, event("Noted", "n"), event("Noted", "t"), event("Opened", "u"))
        assert not await conflicts(store, AppendCondition(query, at[0]))
        await fill(store, event("Opened", "t"))
        assert await conflicts(store, AppendCondition(query, at[0]))

    @rule()
    async def test_c16_conflict_is_its_own_error(self, bench: Bench) -> None:
        """C16: a broken condition is a `Conflict`, which is no failure of the storage and no mistake in the event."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        with pytest.raises(Conflict) as caught:
            await store.append([event("Tried")], AppendCondition(T, at[0]))
        assert not isinstance(caught.value, StoreError | InvalidEvent | PositionAhead)
        assert caught.value.code == "CONFLICT"

    @rule()
    async def test_c17_one_after_the_head(self, bench: Bench) -> None:
        """C17: of several conditions none may be on a position beyond the head."""
        store = await bench.open()
        (last,) = await fill(store, event("Noted", "n"))
        fine, ahead = AppendCondition(T, last), AppendCondition(Query.of(tags="u"), last + 1_000)
        for several in ([fine, ahead], [ahead, fine]):
            with pytest.raises(PositionAhead):
                await store.append([event("Tried")], several)
        assert len(await read(store)) == 1

    @rule()
    async def test_c18_several_conditions(self, bench: Bench) -> None:
        """C18: of several conditions all must hold."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        broken, *fine = (AppendCondition(Query.of(tags=tag), at[0]) for tag in "txy")
        assert not await conflicts(store, fine)
        for several in ([broken, *fine], [fine[0], broken, fine[1]], [*fine, broken]):
            assert await conflicts(store, several)

    @rule()
    async def test_c19_each_with_its_own_after(self, bench: Bench) -> None:
        """C19: of several conditions each counts from its own `after`."""
        store = await bench.open()
        at = await fill(store, *(event("Noted", tag) for tag in "nntnnun"))
        u = Query.of(tags="u")
        for turn in (1, -1):
            assert not await conflicts(store, [AppendCondition(T, at[3]), AppendCondition(u, at[6])][::turn])
            assert await conflicts(store, [AppendCondition(T, at[2]), AppendCondition(u, at[3])][::turn])
            assert await conflicts(store, [AppendCondition(u, at[6]), AppendCondition(T, at[0])][::turn])

    @rule()
    async def test_c20_no_conditions(self, bench: Bench) -> None:
        """C20: an empty list of conditions is no condition."""
        store = await bench.open()
        await fill(store, event("Noted", "n"))
        assert not await conflicts(store, [])

    @rule()
    async def test_c21_names_are_exact(self, bench: Bench) -> None:
        """C21: a condition is not broken by types and tags that are only alike."""
        store = await bench.open()
        names = list(dict.fromkeys(PREFIXES[::-1] + CASES + WILDCARDS))
        (start,) = await fill(store, event("Noted", "n"))
        for name in names:
            condition = [AppendCondition(Query.of(tags=name), start), AppendCondition(Query.of(types=name), start)]
            await store.append([event(name, name)], condition)
        assert [one.type for one in await read(store)][1:] == names

    @rule("gaps")
    async def test_c22_after_in_a_gap(self, bench: Bench) -> None:
        """C22: a position that no event has is as good an `after` as the event below it."""
        store = await bench.open()
        at = await fill(store, *(event("Noted", tag) for tag in "tntn"))
        below, above = at[0] + 1, at[2] + 1
        assert below < at[1]
        assert above < at[3]
        assert await conflicts(store, AppendCondition(T, below))
        assert not await conflicts(store, AppendCondition(T, above))

    @rule()
    async def test_c23_buried_match(self, bench: Bench) -> None:
        """C23: a condition on an old position is broken by a match that many newer events have buried."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        await store.append([event("Noted", "n") for _ in range(3_000)])
        assert await conflicts(store, AppendCondition(T, at[0]))
