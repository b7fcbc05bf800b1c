"""What the words of a text are, what a user's search means, and which pieces of a text it marks."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from refold.testing.view.searches import texts
from refold.testing.view.tools import TEXT, Text
from refold.view.search import MAX_ROW_CHARS, MAX_WORDS, Term, highlighted, terms_of, words_in, words_of
from refold.view.table import Searched, table_of


class Wide(Struct, frozen=True):
    name: str
    one: Annotated[str, Searched()] = ""
    two: Annotated[str, Searched()] = ""
    three: Annotated[str, Searched()] = ""


WIDE = table_of(Wide, "Wide", ["name"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Green TEA", ["green", "tea"]),
        ("Café crème e\u0301te\u0301", ["cafe", "creme", "ete"]),
        ("O'Brien's a_b 50% x²", ["o", "brien", "s", "a", "b", "50", "x2"]),
        ("Straße ﬁsh", ["strasse", "fish"]),
        ("日本のお茶 tea", ["日", "本", "の", "お", "茶", "tea"]),
        ("カフェ・オレ", ["カ", "フ", "ェ", "オ", "レ"]),
        ('😀 * " \\ &|!:()', []),
        ("x" * 500, ["x" * 100]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("green tea*", [Term(("green",)), Term(("tea",), prefix=True)]),
        ('"green tea" pot', [Term(("green", "tea")), Term(("pot",))]),
        ('"green te"*', [Term(("green", "te"), prefix=True)]),
        ('"green tea', [Term(("green",)), Term(("tea",))]),
        ("o'brien", [Term(("o", "brien"))]),
        ("緑茶", [Term(("緑", "茶"))]),
        ('* "" \' ()', []),
    ],
)
def test_terms(text: str, terms: list[Term]) -> None:
    assert terms_of(TEXT, text) == terms


def test_a_row_is_searched_as_far_as_every_database_can() -> None:
    long = " ".join(f"{n:0100}" for n in range(3_000))
    found = {column.name: words for column, words in words_in(WIDE, Wide("a", "first", long, "last"))}
    assert found["one"] == ["first"]
    assert sum(len(word) for words in found.values() for word in words) <= MAX_ROW_CHARS
    assert len(found["two"]) == (MAX_ROW_CHARS - 5) // 100
    many = "a " * 20_000
    counts = [len(words) for _, words in words_in(WIDE, Wide("a", many, many, many))]
    assert counts == [MAX_WORDS, 16_000 - 3 - MAX_WORDS, 0]


def test_what_is_found_is_marked() -> None:
    row = Text("1", "The <b>Green</b> tea, green teas", None)
    assert highlighted(TEXT, row, '"green tea"')["title"] == [("The <b>Green</b> tea, green teas", False)]
    assert highlighted(TEXT, row, "gre* teas")["title"] == [
        ("The <b>", False),
        ("Green", True),
        ("</b> tea, ", False),
        ("green", True),
        (" ", False),
        ("teas", True),
    ]
    assert highlighted(TEXT, row, "tea")["body"] == []
    assert highlighted(TEXT, Text("1", "un cafe\u0301 à Orléans"), "café orleans")["title"] == [
        ("un ", False),
        ("cafe\u0301", True),
        (" à ", False),
        ("Orléans", True),
    ]
    assert highlighted(TEXT, Text("1", "日本のお茶"), "お茶")["title"] == [
        ("日本の", False),
        ("お", True),
        ("茶", True),
    ]


@given(texts(), texts())
def test_pieces_make_up_the_text(text: str, words: str) -> None:
    pieces = highlighted(TEXT, Text("1", text), words)["title"]
    assert "".join(piece for piece, _ in pieces) == text
    assert all(words_of(piece) for piece, found in pieces if found)


@given(st.text(), st.text(max_size=100).filter(lambda words: len(words.split()) < 30))
def test_any_text_and_any_search(text: str, words: str) -> None:
    pieces = highlighted(TEXT, Text("1", text), words)["title"]
    assert "".join(piece for piece, _ in pieces) == text
