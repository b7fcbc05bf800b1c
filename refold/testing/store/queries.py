"""Rules Q: which events a query means."""

import asyncio

import pytest

from refold.errors import InvalidQuery
from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent
from refold.store.api import Store
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import data, data_of, event, fill, pages, read

PREFIXES = ("a", "a:", "a:1", "a:10", "a:1:x", "ba:1")
CASES = ("a:x", "A:x", "a:X", "é", "É")
WILDCARDS = ("a%", "a_", "ab", "a*", "a?", "a[b]", "a.", "^a", "%", "*")
PUNCTUATION = ("a,b", "a", "b", "a'b", "a''b", 'a"b', "a\\b", "a;b", "a|b", "a b", '["a"]', "a\nb", "a\x1fb", "a\x01b")
NORMAL_FORMS = ("é", "e\u0301", "Å", "\u212b", "ﬁ", "fi", "a\u200bb", "ab", "\ufeffa", "a")
SPACES = ("a", " a", "a ", "a\t", "a\u00a0")


async def exact_tags(bench: Bench, names: tuple[str, ...]) -> None:
    """Check that each of these tags finds its own event and no other."""
    store = await bench.open()
    noted = [event("Noted", name) for name in names]
    await fill(store, *noted)
    for name, one in zip(names, noted, strict=True):
        assert await data(store, Query.of(tags=name)) == [one.data], name


async def take_turns(store: Store, rounds: int) -> None:
    """Append events of two types, one by one, in turn."""
    for _ in range(rounds):
        for name in ("First", "Second"):
            await fill(store, event(name, "t"))
            await asyncio.sleep(0)


class QueryRules(StoreRules):
    """Which events a query means."""

    @rule()
    async def test_q1_all(self, bench: Bench) -> None:
        """Q1: a query without items means all events, with tags or without."""
        store = await bench.open()
        noted = [event("A", "t"), event("B"), event("C", "t", "u")]
        await fill(store, *noted)
        assert await data(store, Query()) == data_of(noted)

    @rule()
    async def test_q2_type(self, bench: Bench) -> None:
        """Q2: one type means the events of that type, with tags or without."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "t"), event("A")]
        await fill(store, *noted)
        assert await data(store, Query.of(types="A")) == [noted[0].data, noted[2].data]

    @rule()
    async def test_q3_several_types(self, bench: Bench) -> None:
        """Q3: several types mean any of them."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "t"), event("C", "t")]
        await fill(store, *noted)
        assert await data(store, Query.of(types=["A", "C"])) == [noted[0].data, noted[2].data]

    @rule()
    async def test_q4_tag(self, bench: Bench) -> None:
        """Q4: one tag means the events that have it."""
        store = await bench.open()
        noted = [event("A", "t"), event("A", "u"), event("B", "t"), event("A")]
        await fill(store, *noted)
        assert await data(store, Query.of(tags="t")) == [noted[0].data, noted[2].data]

    @rule()
    async def test_q5_two_tags(self, bench: Bench) -> None:
        """Q5: two tags mean both."""
        store = await bench.open()
        noted = [event("A", "t"), event("A", "u"), event("A", "t", "u")]
        await fill(store, *noted)
        assert await data(store, Query.of(tags=["t", "u"])) == [noted[2].data]

    @rule()
    async def test_q6_type_and_tag(self, bench: Bench) -> None:
        """Q6: a type and a tag in one item mean both."""
        store = await bench.open()
        noted = [event("A", "t"), event("A", "u"), event("B", "t")]
        await fill(store, *noted)
        assert await data(store, Query.of(types="A", tags="t")) == [noted[0].data]

    @rule()
    async def test_q7_two_items(self, bench: Bench) -> None:
        """Q7: two items mean either."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "t"), event("C", "t")]
        await fill(store, *noted)
        either = Query.of(types="A") | Query.of(types="C")
        assert await data(store, either) == [noted[0].data, noted[2].data]

    @rule()
    async def test_q8_matching_twice(self, bench: Bench) -> None:
        """Q8: an event that matches two items is returned once."""
        store = await bench.open()
        noted = [event("A", "t"), event("A", "t")]
        await fill(store, *noted)
        assert await data(store, Query.of(types="A") | Query.of(tags="t")) == data_of(noted)

    @rule()
    async def test_q9_no_match(self, bench: Bench) -> None:
        """Q9: a read that matches nothing yields one empty page, which tells how far it has looked."""
        store = await bench.open()
        await fill(store, event("A", "t", "u"), event("A", "u", "v"), event("A", "t", "v"))
        found = await pages(store, Query.of(tags=["t", "u", "v"]))
        assert [(list(page), page.upto) for page in found] == [([], await store.head())]

    @rule()
    async def test_q10_unknown_names(self, bench: Bench) -> None:
        """Q10: a type or tag that no event has matches nothing, alone or beside one that is known."""
        store = await bench.open()
        await fill(store, event("A", "t"), event("B", "t"))
        for query in (
            Query.of(types="X"),
            Query.of(tags="x"),
            Query.of(types="X", tags="t"),
            Query.of(types="A", tags="x"),
        ):
            assert await read(store, query) == [], query

    @rule()
    async def test_q11_tags_by_prefix(self, bench: Bench) -> None:
        """Q11: a tag is not found by its beginning or end."""
        await exact_tags(bench, PREFIXES)

    @rule()
    async def test_q12_no_types_or_no_tags(self, bench: Bench) -> None:
        """Q12: an item without types means any type, whatever the types of the other items; so for tags."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "u"), event("C", "t"), event("C", "u"), event("A", "u")]
        await fill(store, *noted)
        query = Query((QueryItem(tags=("t",)), QueryItem(("B",), ("u",))))
        assert await data(store, query) == data_of(noted[:3])
        with pytest.raises(InvalidQuery):
            QueryItem()

    @rule()
    async def test_q13_type_named_like_a_tag(self, bench: Bench) -> None:
        """Q13: a type that is named like a tag is not confused with it."""
        store = await bench.open()
        noted = [event("same", "t"), event("Other", "same")]
        await fill(store, *noted)
        assert await data(store, Query.of(types="same")) == [noted[0].data]
        assert await data(store, Query.of(tags="same")) == [noted[1].data]

    @rule()
    async def test_q15_subsets_and_supersets(self, bench: Bench) -> None:
        """Q15: an event with more tags than the item names is meant; one with fewer is not."""
        store = await bench.open()
        noted = [event("A", "t", "u", "v"), event("A", "t", "u")]
        await fill(store, *noted)
        assert await data(store, Query.of(tags=["t", "u"])) == data_of(noted)
        assert await data(store, Query.of(tags=["t", "u", "v"])) == data_of(noted[:1])

    @rule()
    async def test_q16_each_tag(self, bench: Bench) -> None:
        """Q16: an event is found by each of its tags, and by its type with each of them."""
        store = await bench.open()
        noted = event("A", "t", "u", "v")
        await fill(store, noted)
        for tag in noted.tags:
            assert await data(store, Query.of(tags=tag)) == [noted.data], tag
            assert await data(store, Query.of(types="A", tags=tag)) == [noted.data], tag

    @rule()
    async def test_q17_three_items(self, bench: Bench) -> None:
        """Q17: the specification's example of three items means just what it says."""
        store = await bench.open()
        query = Query(
            (
                QueryItem(types=("EventType1", "EventType2")),
                QueryItem(tags=("tag1", "tag2")),
                QueryItem(("EventType2", "EventType3"), ("tag1", "tag3")),
            )
        )
        meant = [
            event("EventType1", "tag8"),
            event("EventType2", "tag9"),
            event("EventType9", "tag1", "tag2"),
            event("EventType3", "tag1", "tag3"),
        ]
        others = [
            event("EventType3", "tag1"),
            event("EventType3", "tag3"),
            event("EventType9", "tag1", "tag3"),
            event("EventType9", "tag2"),
        ]
        await fill(store, *(one for pair in zip(meant, others, strict=True) for one in pair))
        assert await data(store, query) == data_of(meant)

    @rule()
    async def test_q18_order_across_items(self, bench: Bench) -> None:
        """Q18: events are in position order, whichever item they match."""
        store = await bench.open()
        noted = [event("A", tag) for tag in ("u", "t", "u", "t")]
        await fill(store, *noted)
        query = Query((QueryItem(tags=("t",)), QueryItem(tags=("u",))))
        assert await data(store, query) == data_of(noted)

    @rule()
    async def test_q19_tags_by_case(self, bench: Bench) -> None:
        """Q19: tags that differ in case differ."""
        await exact_tags(bench, CASES)

    @rule()
    async def test_q20_tags_with_wildcards(self, bench: Bench) -> None:
        """Q20: what is a wildcard elsewhere is a character like others in a tag."""
        await exact_tags(bench, WILDCARDS)

    @rule()
    async def test_q21_tags_with_punctuation(self, bench: Bench) -> None:
        """Q21: quotes, separators and control characters in a tag are characters like others."""
        await exact_tags(bench, PUNCTUATION)

    @rule()
    async def test_q22_tags_by_normal_form(self, bench: Bench) -> None:
        """Q22: tags that differ only in their Unicode normal form, or in what cannot be seen, differ."""
        await exact_tags(bench, NORMAL_FORMS)

    @rule()
    async def test_q23_tags_by_spaces(self, bench: Bench) -> None:
        """Q23: tags that differ in spaces differ."""
        await exact_tags(bench, SPACES)

    @rule()
    async def test_q24_types_are_exact(self, bench: Bench) -> None:
        """Q24: a type finds its own events and no others, however alike their types are."""
        store = await bench.open()
        names = dict.fromkeys(PREFIXES + CASES + WILDCARDS + PUNCTUATION + NORMAL_FORMS + SPACES)
        noted = [event(name, "t") for name in names]
        await fill(store, *noted)
        for name, one in zip(names, noted, strict=True):
            assert await data(store, Query.of(types=name)) == [one.data], name

    @rule()
    async def test_q25_nothing_else_is_matched(self, bench: Bench) -> None:
        """Q25: an event is not found by its data or metadata."""
        store = await bench.open()
        content = b'{"type":"A","tags":["t"],"event_id":"id-1"}'
        await store.append([NewEvent("Noted", content, ("u",), metadata=content)])
        for name in ("A", "t", "id-1", "event_id", content.decode()):
            known = event(name, name)
            await fill(store, known)
            assert await data(store, Query.of(types=name)) == [known.data], name
            assert await data(store, Query.of(tags=name)) == [known.data], name

    @rule()
    async def test_q26_items_share_a_snapshot(self, bench: Bench) -> None:
        """Q26: the items of one query see the log at one moment, whatever is appended meanwhile."""
        store = await bench.open()
        query = Query((QueryItem(types=("First",)), QueryItem(("Second",), ("t",))))
        writing = asyncio.create_task(take_turns(store, rounds=30))
        while not writing.done():
            types = [one.type for one in await read(store, query)]
            assert types == (["First", "Second"] * 30)[: len(types)]
            await asyncio.sleep(0)
        await writing
