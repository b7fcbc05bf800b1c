from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import InvalidQuery
from refold.model.query import Query, QueryItem

TYPES = st.sampled_from(["A", "B", "C", "x:1"])
TAGS = st.sampled_from(["x:1", "x:2", "x:10", "X:1", "A"])
EVENTS = st.tuples(TYPES, st.frozensets(TAGS, max_size=4))


@st.composite
def items(draw: st.DrawFn) -> QueryItem:
    types = draw(st.lists(TYPES, max_size=3))
    tags = draw(st.lists(TAGS, min_size=0 if types else 1, max_size=3))
    return QueryItem(tuple(types), tuple(tags))


QUERIES = st.lists(items(), max_size=3).map(lambda found: Query(tuple(found)))


@given(items(), EVENTS)
def test_an_item_means_one_of_its_types_and_all_of_its_tags(item: QueryItem, event: tuple[str, frozenset[str]]) -> None:
    kind, tags = event
    means = (not item.types or kind in item.types) and set(item.tags) <= tags
    assert item.matches(kind, tags) is means
    assert item.matches(kind, tuple(tags)) is means


@given(QUERIES, QUERIES, EVENTS)
def test_or_is_or(a: Query, b: Query, event: tuple[str, frozenset[str]]) -> None:
    assert (a | b).matches(*event) == (a.matches(*event) or b.matches(*event))


@given(QUERIES, QUERIES, QUERIES, EVENTS)
def test_or_does_not_care_about_order(a: Query, b: Query, c: Query, event: tuple[str, frozenset[str]]) -> None:
    assert (a | b).matches(*event) == (b | a).matches(*event)
    assert (a | b) | c == a | (b | c)


@given(QUERIES)
def test_all_absorbs_and_or_with_itself_changes_nothing(a: Query) -> None:
    assert a | Query() == Query() | a == Query()
    assert a | a == a


@given(EVENTS)
def test_a_query_without_items_means_all(event: tuple[str, frozenset[str]]) -> None:
    assert Query().matches(*event)


@given(st.lists(TYPES, min_size=1), st.lists(TAGS), st.randoms())
def test_items_are_alike_in_any_order_and_number(types: list[str], tags: list[str], random: Any) -> None:
    again = [*types, *types], [*tags, *tags]
    for each in again:
        random.shuffle(each)
    item = QueryItem(tuple(again[0]), tuple(again[1]))
    assert item == QueryItem(tuple(types), tuple(tags))
    assert hash(item) == hash(QueryItem(tuple(types), tuple(tags)))
    assert item.types == tuple(sorted(set(types)))


def test_equal_items_count_once() -> None:
    assert len(Query((QueryItem(("A", "B")), QueryItem(("B", "A", "A")))).items) == 1


def test_tags_match_exactly() -> None:
    query = Query.of(tags=["x:1"])
    assert query.matches("A", ("x:1",))
    assert not query.matches("A", ("x:10", "X:1", "x:1 "))


def test_of_takes_one_name_or_many() -> None:
    assert Query.of(types="A", tags="x:1") == Query.of(types=["A"], tags=("x:1",))
    assert Query.of(types=(each for each in "AB")) == Query((QueryItem(("A", "B")),))


class A: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs types or tags; a Query() without items means all"),
        ({"types": "A"}, "write types=('A',)"),
        ({"tags": "x:1"}, "write tags=('x:1',)"),
        ({"types": (A,)}, "types are strings, not <class"),
        ({"types": ("A",), "tags": (1,)}, "tags are strings, not 1"),
    ],
)
def test_an_item_that_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        QueryItem(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "\ud83d", "order:\udcff"])
def test_what_no_database_can_look_for_is_refused(name: str) -> None:
    for field in ("types", "tags"):
        with pytest.raises(InvalidQuery, match="it holds a NUL character, or half of a surrogate pair"):
            Query.of(**{field: name})
