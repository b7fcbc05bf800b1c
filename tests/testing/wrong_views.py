"""Wrong views: rows in memory, each with one fault, for the rule of the contract that must catch it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import NotKept
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.store.memory import MemoryStore
from refold.view.api import Delete, Expect, Hit, Put, Write
from refold.view.find import Condition, Find
from refold.view.memory import MemoryViews
from refold.view.search import matching, terms_of, words_of
from refold.view.table import Key, Table

T = TypeVar("T", bound=type[MemoryViews])


class Wrong(Struct):
    """Wrong views, and the rules that must say so."""

    views: type[MemoryViews]
    rules: tuple[str, ...]
    forgets: bool


WRONG: list[Wrong] = []


def breaks(*rules: str, forgets: bool = False) -> Callable[[T], T]:
    """List views as those that these rules must catch; those that forget are made anew each time they are opened."""

    def listed(views: T) -> T:
        WRONG.append(Wrong(views, rules, forgets))
        return views

    return listed


# Rows.


@breaks("a_new_table_is_empty")
class CountsTheTableItself(MemoryViews):
    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        return max(1, await super().count(table, where))


@breaks("rows_take_the_place_of_those_of_their_key")
class KeepsTheFirstRow(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        kept: list[Write] = []
        for each in writes:
            if isinstance(each, Put) and not each.table.name.startswith("_"):
                there = await self.get(each.table, [each.table.key_of(row) for row in each.rows])
                kept.append(Put(each.table, [row for row in each.rows if each.table.key_of(row) not in there]))
            else:
                kept.append(each)
        return await super().write(kept, expects)


@breaks("many_rows")
class GetsAThousand(MemoryViews):
    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        return await super().get(table, keys[:1_000])


@breaks("values_come_back")
class LosesMicroseconds(MemoryViews):
    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        found = await super().get(table, keys)
        return {
            key: replace(row, at=row.at.replace(microsecond=0)) if getattr(row, "at", None) else row
            for key, row in found.items()
        }


@breaks("what_is_nested_can_be_found")
class FindsNothingNested(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        return [] if any(each.column.form == "json" for each in find.where) else await super().find(table, find)


@breaks("a_key_of_several_fields")
class LooksAtTheFirstFieldOfAKey(MemoryViews):
    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        firsts = {key[:1] for key in keys}
        return {table.key_of(row): row for row in await self.find(table, Find()) if table.key_of(row)[:1] in firsts}


@breaks("a_table_of_one_row")
class GetsNothingWithoutAKey(MemoryViews):
    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        return await super().get(table, keys) if table.key else {}


@breaks("keys_match_exactly")
class IgnoresCase(MemoryViews):
    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        wanted = {tuple(str(part).lower() for part in key) for key in keys}
        rows = await self.find(table, Find())
        return {
            table.key_of(row): row for row in rows if tuple(str(part).lower() for part in table.key_of(row)) in wanted
        }


@breaks("finding")
class SkipsNoRows(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        return await super().find(table, replace(find, offset=0))


@breaks("finding")
class OrdersOneWay(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        return await super().find(table, replace(find, order=tuple((column, False) for column, _ in find.order)))


@breaks("finding")
class CountsAll(MemoryViews):
    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        return await super().count(table, where[:1])


@breaks("rows_that_go")
class IgnoresDeletes(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        return await super().write([each for each in writes if isinstance(each, Put)], expects)


@breaks("rows_that_go")
class DeletesFirst(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        return await super().write(sorted(writes, key=lambda each: isinstance(each, Put)), expects)


@breaks("going_through_a_table_by_its_key")
class AfterIsInclusive(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        there = await super().get(table, [] if find.after is None else [find.after])
        return [*there.values(), *await super().find(table, find)][: find.limit]


@breaks("going_through_a_table_by_its_key")
class AfterLooksAtTheFirstField(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        if find.after is None:
            return await super().find(table, find)
        rows = await super().find(table, replace(find, limit=None))
        return [row for row in rows if table.key_of(row)[0] != find.after[0]][: find.limit]


@breaks("versions_side_by_side")
class DropsTheWholeName(MemoryViews):
    async def drop(self, stored: Sequence[str]) -> None:
        names = {name.partition("_")[0] for name in stored}
        await super().drop([name for name in self._tables if name.partition("_")[0] in names])


@breaks("versions_side_by_side", "tables_are_made_by_many_at_once")
class MakesTablesAnew(MemoryViews):
    async def create(self, tables: Sequence[Table]) -> None:
        await self.drop([table.stored for table in tables])
        await super().create(tables)


@breaks("what_is_not_there_says_so")
class TakesWhatIsNotThereForEmpty(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        try:
            return await super().find(table, find)
        except NotKept:
            return []


@breaks("every_row_that_there_ever_was")
class HasNoPast(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        for each in writes:
            if isinstance(each, Put) and "valid_to" in each.table.key:
                each = Put(each.table, list({each.table.key_of(row)[:-1]: row for row in each.rows}.values()))
            await super().write([each], expects)
        return True


@breaks("everything_is_there_again", "of_two_handles_one_writes", forgets=True)
class Forgets(MemoryViews):
    pass


@breaks("what_no_row_can_hold")
class HoldsTheRest(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        try:
            return await super().write(writes, expects)
        except OverflowError:
            return False


@breaks("whole_numbers_between_others")
class CutsFractions(MemoryViews):
    async def find(self, table: Table, find: Find) -> list[Any]:
        cut = [
            replace(each, value=int(each.value))
            if each.column.form == "integer" and isinstance(each.value, float)
            else each
            for each in find.where
        ]
        return await super().find(table, replace(find, where=tuple(cut)))


# Writes.


@breaks("what_does_not_hold_keeps_all_from_happening", "what_can_be_expected")
class IgnoresExpectations(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        return await super().write(writes)


@breaks("what_does_not_hold_keeps_all_from_happening")
class ChangesAndSaysNo(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        held = await super().write([], expects)
        await super().write(writes[:1])
        return held and await super().write(writes)


@breaks(
    "of_many_that_expect_the_same_one_writes",
    "of_many_that_begin_at_once_one_does",
    "of_two_handles_one_writes",
)
class LooksAndThenWrites(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        held = await super().write([], expects)
        await asyncio.sleep(0)
        return held and await super().write(writes)


@breaks("all_or_nothing", "what_no_row_can_hold")
class WritesRowByRow(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        if not await super().write([], expects):
            return False
        for each in writes:
            if isinstance(each, Delete):
                await super().write([each])
                continue
            for row in each.rows:
                await super().write([Put(each.table, [row])])
        return True


@breaks("what_can_be_expected")
class LooksAtTheLastExpectation(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        return await super().write(writes, expects[-1:] if len(expects) < 5 else expects[:1])


@breaks("what_can_be_expected")
class ExpectsNoneOfNone(MemoryViews):
    def _holds(self, expect: Expect) -> bool:
        values = expect.values and {name: value for name, value in expect.values.items() if value is not None}
        return super()._holds(replace(expect, values=values))


@breaks("what_can_be_expected", "of_many_that_begin_at_once_one_does")
class AbsentIsAnything(MemoryViews):
    def _holds(self, expect: Expect) -> bool:
        return expect.values is None or super()._holds(expect)


@breaks("what_is_expected_may_be_written")
class LooksAfterwards(MemoryViews):
    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        before = {name: dict(rows) for name, rows in self._tables.items()}
        await super().write(writes)
        if await super().write([], expects):
            return True
        self._tables = before
        return False


@breaks("a_table_that_is_gone_is_made_anew")
class RemembersWhatWasThere(MemoryViews):
    async def create(self, tables: Sequence[Table]) -> None:
        await super().create([table for table in tables if table.stored not in vars(self).setdefault("made", set())])
        vars(self)["made"].update(table.stored for table in tables)


@breaks("tables_are_made_by_many_at_once")
class MakesATableOnce(MemoryViews):
    async def create(self, tables: Sequence[Table]) -> None:
        missing = [table for table in tables if table.stored not in self._tables]
        await asyncio.sleep(0)
        for table in missing:
            if table.stored in self._tables:
                raise ValueError(f"there is a table {table.stored!r} already")
            await super().create([table])


# Appends.


class Appending(MemoryViews):
    """Views whose appends are to be bent."""

    async def append(
        self,
        events: Sequence[NewEvent],
        condition: Conditions = None,
        *,
        append_id: str | None = None,
        writes: Sequence[Write] = (),
        expects: Sequence[Expect] = (),
    ) -> Appended | None:
        return await self.bent(events, condition, append_id, writes, expects)

    async def bent(
        self,
        events: Sequence[NewEvent],
        condition: Conditions,
        append_id: str | None,
        writes: Sequence[Write],
        expects: Sequence[Expect],
    ) -> Appended | None:
        return await super().append(events, condition, append_id=append_id, writes=writes, expects=expects)

    @property
    def log(self) -> MemoryStore:
        log = self.beside() if self.beside else None
        assert log is not None
        return log


@breaks("rows_and_events_are_one_step")
class AppendsWithoutDeleting(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        return await super().bent(
            events, condition, append_id, [each for each in writes if isinstance(each, Put)], expects
        )


@breaks("a_condition_that_fails_changes_no_row", "an_append_that_is_repeated_changes_no_row")
class WritesAndThenAppends(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        if not await self.write(writes, expects):
            return None
        return await self.log.append(events, condition, append_id=append_id)


@breaks("an_expectation_that_fails_appends_nothing", "what_no_row_can_hold_is_not_appended")
class AppendsAndThenWrites(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        done = await self.log.append(events, condition, append_id=append_id)
        return done if await self.write(writes, expects) else None


@breaks("an_append_that_is_repeated_changes_no_row")
class WritesAgain(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        if append_id is not None and await self.log.appended(append_id) and not await self.write(writes, expects):
            return None
        return await super().bent(events, condition, append_id, writes, expects)


@breaks("no_change_is_lost", "no_change_of_two_handles_is_lost")
class LooksAndThenAppends(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        held = await self.write([], expects)
        await asyncio.sleep(0)
        return await super().bent(events, condition, append_id, writes, ()) if held else None


@breaks("two_that_rely_on_what_the_other_puts")
class LooksAtWhatItWrites(Appending):
    async def bent(self, events: Any, condition: Any, append_id: Any, writes: Any, expects: Any) -> Appended | None:
        put = [each.table.key_of(row) for each in writes if isinstance(each, Put) for row in each.rows]
        some = [each for each in expects if not each.absent or each.key in put]
        return await super().bent(events, condition, append_id, writes, some)


@breaks("what_is_looked_at_can_be_expected")
class ExpectsTheRowToBeThere(MemoryViews):
    def _holds(self, expect: Expect) -> bool:
        return super()._holds(expect if expect.held is None else replace(expect, held=None, values={}))


@breaks("a_table_gets_the_columns_that_it_lacks")
class WidensWithNothing(MemoryViews):
    async def widen(self, table: Table, like: Any) -> None:
        await super().widen(table, replace(like, **{column.name: None for column in table.columns}))


@breaks("a_table_that_would_be_another_stays")
class MakesWhatWouldBeAnother(MemoryViews):
    async def widen(self, table: Table, like: Any) -> None:
        await self.drop([table.stored])
        await self.create([table])


# Searches.


class Searching(MemoryViews):
    """Views whose search is to be bent."""

    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0, **how: Any
    ) -> list[Hit]:
        if how.get("order", "best") != "best":
            return await super().search(table, words, where, limit, offset, **how)
        rows = await self.find(table, Find(tuple(where)))
        return self.hits(table, rows, words)[offset : offset + limit]

    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, rows, words)


@breaks("all_words_in_any_field", "searching")
class AnyWordWillDo(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        hits = {table.key_of(hit.row): hit for word in words.split() for hit in matching(table, rows, word)}
        return [*hits.values()] if '"' not in words else matching(table, rows, words)


@breaks("all_words_in_any_field", "searching")
class MissesPrefixes(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, rows, words.replace("*", " "))


@breaks("all_words_in_any_field", "searching")
class TakesPhrasesApart(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        terms_of(table, words)
        return matching(table, rows, " ".join(words_of(words))) if "*" not in words else matching(table, rows, words)


@breaks("searching")
class KnowsOperators(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, rows, words.replace("OR", ""))


@breaks("the_best_come_first")
class WeighsNothing(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return [
            replace(hit, score=1.0)
            for hit in sorted(matching(table, rows, words), key=lambda hit: table.key_of(hit.row))
        ]


@breaks("the_best_come_first")
class FindsTheSamePage(Searching):
    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0, **how: Any
    ) -> list[Hit]:
        return await super().search(table, words, where, limit, **how)


@breaks("rows_are_found_by_key")
class FindsTheBestFirst(Searching):
    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0, **how: Any
    ) -> list[Hit]:
        return await super().search(table, words, where, limit, offset)


@breaks("rows_are_found_by_key")
class TakesTheFirstRowsAndTurnsThem(Searching):
    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0, **how: Any
    ) -> list[Hit]:
        if how.get("order") != "last":
            return await super().search(table, words, where, limit, offset, **how)
        return (await super().search(table, words, where, limit, offset, order="first"))[::-1]


@breaks("what_is_searched_follows_its_rows")
class SearchesThePast(Searching):
    def __init__(self) -> None:
        super().__init__()
        self._past: list[Any] = []

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        self._past += [row for each in writes if isinstance(each, Put) and each.table.searched for row in each.rows]
        return await super().write(writes, expects)

    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, self._past, words)


@breaks("what_is_searched_follows_its_rows", "fields_of_any_name")
class SearchesUnconditionally(Searching):
    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0, **how: Any
    ) -> list[Hit]:
        return await super().search(table, words, (), limit, offset, **how)


@breaks("what_cannot_be_searched")
class SearchesForAnything(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, rows, words[:60])


@breaks("huge_texts")
class SearchesTheFirstWords(Searching):
    def hits(self, table: Table, rows: list[Any], words: str) -> list[Hit]:
        return matching(table, [replace(row, title=row.title[-5_000:]) for row in rows], words)
