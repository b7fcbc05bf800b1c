"""Wrong stores: queries that mean something else."""

import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Collection
from fnmatch import fnmatchcase
from typing import Any

from refold.model.query import Query, QueryItem
from refold.model.record import StoredEvent
from refold.store.api import Page
from refold.store.memory import MemoryStore
from refold.testing.store.tools import turns
from tests.testing.bending import Bent, Odd, breaks, lower

Test = Callable[[QueryItem, str, Collection[str]], bool]


class Misreads(Bent):
    """Matches items by a test of its own, if they are such as it is for."""

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags)

    def applies(self, query: Query) -> bool:
        return True

    def asked(self, query: Query, **options: Any) -> Query:
        return Odd(query.items, test=self.misread) if self.applies(query) else query


class MisreadsTags(Misreads):
    """Compares names of tags in a way of its own."""

    def alike(self, wanted: str, found: str) -> bool:
        return wanted == found

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        wanted_type = not item.types or type in item.types
        return wanted_type and all(any(self.alike(one, tag) for tag in tags) for one in item.tags)


class _Tagged(Query, frozen=True):
    def matches(self, type: str, tags: Collection[str]) -> bool:
        return bool(tags)


@breaks("q1", nets=["q14"])
class ReadsAllByTag(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        return query if query.items else _Tagged()


@breaks("q2", nets=["q14"])
class FindsTypesByTag(Misreads):
    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags) and len(tags) > 0


@breaks("q3")
class JoinsTwoTypesByAnd(Misreads):
    def applies(self, query: Query) -> bool:
        return len(query.items) == 1

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags) and (len(item.types) != 2 or len(item.tags) > 0)


@breaks("q4")
class FindsWhatHasNoTag(Misreads):
    """As a left join does that meets NULL."""

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags) or (len(item.tags) == 1 and not item.types and not tags)


@breaks("q5")
class JoinsTwoTagsByOr(Misreads):
    def applies(self, query: Query) -> bool:
        return len(query.items) == 1

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        if len(item.tags) == 2 and not item.types:
            return any(tag in tags for tag in item.tags)
        return item.matches(type, tags)


@breaks("q6")
class JoinsTypeAndTagByOr(Misreads):
    def applies(self, query: Query) -> bool:
        known = {one.type for one in self._events}, {tag for one in self._events for tag in one.tags}
        return len(query.items) == 1 and all(
            name in names
            for item in query.items
            for names, wanted in zip(known, (item.types, item.tags), strict=True)
            for name in wanted
        )

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        if item.types and len(item.tags) == 1:
            return type in item.types or item.tags[0] in tags
        return item.matches(type, tags)


@breaks("q7")
class JoinsTwoItemsByAnd(Misreads):
    def applies(self, query: Query) -> bool:
        return len(query.items) == 2 and not any(item.tags for item in query.items)

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return False


@breaks("q8", nets=["q14"])
class ReturnsOnceForEachItem(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        times = {one.position: sum(item.matches(one.type, one.tags) for item in query.items) for one in page}
        return Page([one for one in page for _ in range(times[one.position] or 1)], page.upto)


@breaks("q9")
class YieldsNoEmptyPage(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        async for page in super().read(query, **options):
            if page or options:
                yield page


@breaks("q10")
class DropsUnknownTypes(Misreads):
    def applies(self, query: Query) -> bool:
        known = {one.type for one in self._events}
        return len(query.items) == 1 and not known.intersection(query.items[0].types)

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return all(tag in tags for tag in item.tags)


@breaks("q10")
class DropsUnknownTags(Misreads):
    def applies(self, query: Query) -> bool:
        return len(query.items) == 1

    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        known = {tag for one in self._events for tag in one.tags}
        return (not item.types or type in item.types) and all(tag in tags for tag in item.tags if tag in known)


@breaks("q11")
class FindsTagsByTheirBeginning(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return found == wanted or found.startswith(f"{wanted}:")


@breaks("q12")
class TakesTypesFromTheOtherItem(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        if len(query.items) != 2:
            return query
        types = tuple(name for item in query.items for name in item.types)
        return Query(tuple(QueryItem(item.types or types, item.tags) for item in query.items))


@breaks("q13")
class KeepsTypesAmongTheTags(Misreads):
    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags if item.types else [*tags, type])


@breaks("q15")
class ComparesTagsForEquality(Misreads):
    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags) and (len(item.tags) < 2 or set(item.tags) == set(tags))


@breaks("q16")
class FindsTypesByTheFirstTag(Misreads):
    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, list(tags)[:1] if item.types and len(item.tags) == 1 else tags)


@breaks("q17")
class FlattensThreeItems(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        if len(query.items) != 3:
            return query
        types = [name for item in query.items for name in item.types]
        return Query.of(types=types) | Query.of(tags=[name for item in query.items for name in item.tags])


@breaks("q18")
class ReadsItemByItem(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        if any(item.types for item in query.items):
            return page
        rank = {one.position: [not item.matches(one.type, one.tags) for item in query.items] for one in page}
        return Page(sorted(page, key=lambda one: rank[one.position]), page.upto)


@breaks("q19")
class IgnoresCase(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return lower(wanted) == lower(found)


@breaks("q20")
class FindsTagsByLike(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        pattern = re.escape(wanted).replace("%", ".*").replace("_", ".")
        return re.fullmatch(pattern, found, re.DOTALL) is not None


@breaks("q20")
class FindsTagsByGlob(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        special = "[" in wanted and not wanted.startswith("a[")
        return found == wanted or (not special and fnmatchcase(found, wanted))


@breaks("q21")
class JoinsTagsByCommas(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return wanted == found or wanted in found.split(",")


@breaks("q21")
class DoublesQuotes(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return wanted.replace("''", "'") == found.replace("''", "'")


@breaks("q22")
class NormalisesTags(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return unicodedata.normalize("NFC", wanted) == unicodedata.normalize("NFC", found)


@breaks("q22")
class NormalisesTagsForCompatibility(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        if "\u00a0" in wanted + found:
            return wanted == found
        return unicodedata.normalize("NFKC", wanted) == unicodedata.normalize("NFKC", found)


@breaks("q22")
class IgnoresWhatCannotBeSeen(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return re.sub("[\u200b\ufeff]", "", wanted) == re.sub("[\u200b\ufeff]", "", found)


@breaks("q23")
class StripsTags(MisreadsTags):
    def alike(self, wanted: str, found: str) -> bool:
        return wanted.strip() == found.strip()


@breaks("q24")
class IgnoresCaseOfTypes(Misreads):
    def misread(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return QueryItem(tuple(map(lower, item.types)), item.tags or ("",)).matches(lower(type), [*tags, ""])


@breaks("q25")
class FindsMetadata(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        names = [name.encode() for item in query.items for name in item.tags]
        async for page in super().read(query, **options):
            found = [one for one in self._events if any(b'"%s"' % name in one.metadata for name in names)]
            yield Page([*found, *page], page.upto)


@breaks("q26")
class ReadsItemsOneAfterTheOther(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        if len(query.items) != 2:
            async for page in super().read(query, **options):
                yield page
            return
        found: dict[int, StoredEvent] = {}
        for item in query.items:
            upto = self._head
            async for page in MemoryStore.read(self, Query((item,)), **options):
                found |= {one.position: one for one in page}
                upto = page.upto
            await turns(4)
        if options.get("limit") is not None:
            found = dict(sorted(found.items())[: options["limit"]])
        yield Page([found[at] for at in sorted(found)], upto)
