"""Rules about searches: which rows are found is the same everywhere, and better fits come first."""

import asyncio
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from refold.errors import InvalidQuery
from refold.testing.view.tools import MARKS, TEXT, THING, Text, ViewRules, rule
from refold.view.api import Delete, Put, Views
from refold.view.find import conditions_of
from refold.view.search import matching
from refold.view.table import Searched, table_of

SAMPLES = (
    Text("1", "Green tea", "A light tea from Japan", 1),
    Text("2", "Black tea", "Strong; for the green morning", 2),
    Text("3", "Café crème", "Un café très bon", 1),
    Text("4", "緑茶", "日本 の お茶", 2),
    Text("5", "Tea-pot (cast iron)", None, 1),
    Text("6", "O'Brien's \"best\"", "50% off: a_b * OR NOT \\ & | ! ( ) : <-> tea\x00s", 3),
    Text("7", "teapot", "greens", 3),
)

OFTEN = ("te*", "tea the", '"tea the"', '"tea te"*', "緑*", "茶", "a b", '"a b"', "th* OR")
"""Searches that find something in many of the texts that are made up."""


class Odd(Struct, frozen=True):
    """Something whose fields are called what databases call things of their own."""

    rowid: str
    field0: Annotated[str, Searched(weight=2)] = ""
    rank: int = 0
    text: Annotated[str, Searched()] = ""
    score: int = 0
    kept: int = 0
    words: int = 0
    select: int = 0


class Entry(Struct, frozen=True):
    """Something that is found by a number."""

    number: int
    text: Annotated[str, Searched()] = ""
    shelf: int = 0


ENTRY = table_of(Entry, "Entry", ["number"], version="one")
ODD = table_of(Odd, "Odd", ["rowid"], version="one")


class SearchRules(ViewRules):
    """What a search finds."""

    @rule
    async def test_all_words_in_any_field(self, views: Views) -> None:
        """All words must be there, in whatever field; case and accents do not count; a star asks for a beginning."""
        await views.create([TEXT])
        await views.write([Put(TEXT, [_kept(each) for each in SAMPLES])])
        for words, found in {
            "tea": "12567",
            "green tea": "12",
            '"green tea"': "1",
            "tea green": "12",
            "GRE*": "127",
            '"light te"*': "1",
            "cafe": "3",
            "CRÈME": "3",
            "緑茶": "4",
            "緑*": "4",
            "茶": "4",
            "お茶": "4",
            "茶緑": "",
            "日本": "4",
            "tea* pot": "5",
            "iron cast": "5",
            "o'brien": "6",
            "50%": "6",
            "nothing": "",
            "": "",
            "* \" ' ()": "",
        }.items():
            hits = await views.search(TEXT, words, (), 10)
            assert {hit.row.thing_id for hit in hits} == set(found) - (set("67") - _of(words)), words

    @rule
    async def test_the_best_come_first(self, views: Views) -> None:
        """A word in a field of more weight counts more; pages follow one another."""
        await views.create([TEXT])
        rows = [
            Text("low", "pot", "tea"),
            Text("high", "tea", "pot"),
            *[Text(f"{n:02}", "cup", "tea") for n in range(20)],
        ]
        await views.write([Put(TEXT, rows)])
        hits = await views.search(TEXT, "tea", (), 100)
        assert hits[0].row == rows[1]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        pages = [hit.row for start in range(0, 30, 7) for hit in await views.search(TEXT, "tea", (), 7, start)]
        assert pages == [hit.row for hit in hits]

    @rule
    async def test_rows_are_found_by_key(self, views: Views) -> None:
        """A search can give rows by key, one way or the other, within bounds, whatever fits best."""
        await views.create([ENTRY, TEXT])
        rows = [Entry(n, "tea " * (n % 3 + 1) + ("green" if n % 2 else "black"), n % 5) for n in range(-3, 30)]
        await views.write([Put(ENTRY, rows)])
        asked: dict[str, dict[str, object]] = {
            "tea": {"number__lt": 20, "number__ge": -2},
            "green te*": {"number__le": 19, "number__gt": 4, "shelf": 2},
            "black": {"number": 8},
            '"tea green"': {"number__in": [3, 5, 8], "number__ne": 5},
            "": {},
            "nothing": {},
        }
        for words, where in asked.items():
            conditions = conditions_of(ENTRY, where)
            expected = sorted(hit.row.number for hit in await views.search(ENTRY, words, conditions, 100))
            last = await views.search(ENTRY, words, conditions, 100, order="last")
            first = await views.search(ENTRY, words, conditions, 100, order="first")
            assert [hit.row.number for hit in last] == expected[::-1], words
            assert [hit.row.number for hit in first] == expected, words
            second = await views.search(ENTRY, words, conditions, 7, 2, order="last")
            assert second == last[2:9]
            assert {hit.score for hit in last} <= {0.0}
        await views.write([Put(TEXT, [Text("a", "tea"), Text("b", "tea tea", "tea"), Text("c", "tea")])])
        hits = await views.search(TEXT, "tea", conditions_of(TEXT, {"thing_id__le": "b"}), 10, order="last")
        assert [hit.row.thing_id for hit in hits] == ["b", "a"]

    @rule
    async def test_what_is_searched_follows_its_rows(self, views: Views) -> None:
        """A row that changes is found by its new words only; one that goes by none; conditions narrow it down."""
        await views.create([TEXT, MARKS])
        await views.write([Put(TEXT, [Text("a", "red"), Text("b", "red", shelf=1)])])
        assert len(await views.search(TEXT, "red", (), 10)) == 2
        assert [hit.row for hit in await views.search(TEXT, "red", conditions_of(TEXT, {"shelf__ge": 1}), 10)] == [
            Text("b", "red", shelf=1)
        ]
        await views.write([Put(TEXT, [Text("a", "blue")])])
        assert [hit.row.thing_id for hit in await views.search(TEXT, "red", (), 10)] == ["b"]
        assert [hit.row.thing_id for hit in await views.search(TEXT, "blue", (), 10)] == ["a"]
        await views.write([Delete(TEXT, [("a",), ("b",)])])
        assert await views.search(TEXT, "red", (), 10) == []
        assert await views.count(TEXT, ()) == 0

    @rule
    async def test_what_cannot_be_searched(self, views: Views) -> None:
        """A table without searched fields says how to get one; questions are bounded."""
        await views.create([THING, TEXT])
        with pytest.raises(InvalidQuery, match=r"Thing has no field to search in: mark one"):
            await views.search(THING, "tea", (), 10)
        with pytest.raises(InvalidQuery, match="a search of 5,000 characters"):
            await views.search(TEXT, "x" * 5_000, (), 10)
        with pytest.raises(InvalidQuery, match="a search for 100 words"):
            await views.search(TEXT, "x " * 100, (), 10)
        await views.write([Put(TEXT, [Text("a", "tea " * 50_000, "x" * 100_000)])])
        assert len(await views.search(TEXT, "tea", (), 10)) == 1

    @rule
    async def test_huge_texts(self, views: Views) -> None:
        """What is searched of a row is bounded, its beginning first; words of many bytes are no more than others."""
        await views.create([TEXT])
        strange = " ".join(chr(0x10400 + n % 40) * 90 + str(n) for n in range(4_000))
        hidden = Text("a", "first " + strange + " last", strange)
        common = Text("b", "tea green " * 10_000, "a b" * 30_000)
        await views.write([Put(TEXT, [hidden, common, Text("c", "green tea", "green tea")])])
        for words in ("first", "last", "tea", '"green tea"', "gre*", '"green green"', '"a ba b"'):
            found = {hit.row.thing_id for hit in await views.search(TEXT, words, (), 10)}
            assert found == {hit.row.thing_id for hit in matching(TEXT, [hidden, common], words)} | (
                {"c"} if "tea" in words or words == "gre*" else set()
            ), words
        assert (await views.get(TEXT, [("a",)]))["a",] == hidden

    @rule
    async def test_fields_of_any_name(self, views: Views) -> None:
        """A field may be called what a database calls something of its own."""
        await views.create([ODD])
        await views.write([Put(ODD, [Odd("1", "green", 7, "tea"), Odd("2", "tea", 8)])])
        assert [hit.row for hit in await views.search(ODD, "green tea", (), 5)] == [Odd("1", "green", 7, "tea")]
        hits = await views.search(ODD, "tea", conditions_of(ODD, {"rank__ge": 8, "score": 0}), 5)
        assert [hit.row for hit in hits] == [Odd("2", "tea", 8)]
        await views.write([Put(ODD, [Odd("2", "pot", 8)])])
        assert [hit.row.rowid for hit in await views.search(ODD, "tea", (), 5)] == ["1"]
        await views.write([Delete(ODD, [("1",)])])
        assert await views.search(ODD, "tea", (), 5) == []

    def test_searching(self, tmp_path: Path) -> None:
        """Whatever is searched for in whatever texts: what is found is what going through all rows by hand finds."""
        with asyncio.Runner() as runner:
            opened = self.views(tmp_path)
            views = runner.run(opened.__aenter__())
            try:
                runner.run(views.create([TEXT]))

                @given(st.lists(st.tuples(texts(), st.none() | texts()), min_size=1, max_size=6), texts())
                @settings(max_examples=60, deadline=None)
                def check(fields: list[tuple[str, str | None]], words: str) -> None:
                    rows = [Text(str(n), title, body) for n, (title, body) in enumerate(fields)]
                    runner.run(views.write([Delete(TEXT, [(str(n),) for n in range(6)]), Put(TEXT, rows)]))
                    for each in (words, *OFTEN):
                        found = runner.run(views.search(TEXT, each, (), 100))
                        expected = {hit.row.thing_id for hit in matching(TEXT, rows, each)}
                        assert {hit.row.thing_id for hit in found} == expected, each

                check()
            finally:
                runner.run(opened.__aexit__(None, None, None))


def texts() -> st.SearchStrategy[str]:
    """Return texts of few words, written in many ways."""
    words = [
        "tea",
        "Tea",
        "teapot",
        "thé",
        "the",
        "緑茶",
        "緑",
        "50%",
        "a_b",
        "a-b",
        "'",
        '"',
        '"tea the"',
        "tea*",
        '"te"*',
    ]
    odd = [
        "*",
        "\\",
        "&|!",
        "(:*)",
        "<->",
        "NEAR(",
        "OR",
        "AND NOT",
        "ﬁsh",
        "ß",
        "İ",
        "x2",
        "²",
        "😀",
        ":1A",
        "e\u0301",
    ]
    return st.lists(st.sampled_from(words + odd), max_size=5).map(" ".join)


def _kept(row: Text) -> Text:
    """Return a row as every database can keep it: PostgreSQL takes no NUL."""
    return replace(row, body=row.body and row.body.replace("\0", " "))


def _of(words: str) -> set[str]:
    """Return which of the odd rows a search finds."""
    return {hit.row.thing_id for hit in matching(TEXT, [_kept(each) for each in SAMPLES], words)}
