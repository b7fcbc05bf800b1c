"""Wrong stores: reads that begin or end elsewhere, followers that miss something."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from refold.errors import PositionAhead, StoreBusy
from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Page
from refold.store.memory import MemoryStore
from tests.testing.bending import Bent, breaks
from tests.testing.right_stores import GappedStore

Test = Callable[[QueryItem, str, Collection[str]], bool]


@breaks("o1")
class BeginsAtAfter(Bent):
    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        plain = not query.items and options["upto"] is None and not options["backwards"] and options["limit"] is None
        if plain and 0 < options["after"] < self._head:
            return options | {"after": options["after"] - 1}
        return options


@breaks("o2")
class ReadsBackwardsForwards(Bent):
    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"backwards": options["backwards"] and (options["limit"] is not None or options["after"] > 0)}


@breaks("o3")
class TurnsTheBoundsToo(Bent):
    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        if options["backwards"] and options["after"] and options["upto"]:
            return options | {"after": options["after"] - 1, "upto": options["upto"] - 1}
        return options


@breaks("o4")
class LimitsBeforeItMatches(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        if options["limit"] is None or options["backwards"]:
            return page
        return Page([one for one in page if one.position <= options["after"] + options["limit"]], page.upto)


@breaks("o5")
class NoLimitIsZero(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        return Page(self._events if options["limit"] == 0 else page, page.upto)


@breaks("o6", nets=["m1"])
class RefusesReadsAfterTheHead(Bent):
    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        if options["after"] > self._head:
            raise PositionAhead
        return options


@breaks("o7", nets=["m1"])
class EndsAtTheLastMatch(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        forwards = not options["backwards"] and options["limit"] is None
        return Page(page, page[-1].position if page and forwards else page.upto)


@breaks("o7")
class EndsBeyondTheHead(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        bent = not options["backwards"] and options["limit"] is None
        return Page(page, page.upto if not bent else max(page.upto, options["upto"] or 0))


@breaks("o8")
class ReadsOnAsTheLogGrows(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        upto = 0
        async for page in super().read(query, **options):
            upto = page.upto
            yield page
        if not options and upto < self._head:
            async for page in super().read(query, after=upto):
                yield page


@breaks(nets=["o9"])
class ReadsOnePage(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        pages = [page async for page in super().read(query, **options)]
        yield Page([one for page in pages for one in page], pages[-1].upto)


@breaks("o10")
class LooksAfterUp(GappedStore):
    def _first(self, after: int) -> int:
        known = after in self._positions or after > self._position(len(self._positions))
        return self._place(after) if known else 0


@breaks("o11")
class OneReadAtATime(Bent):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._reading = asyncio.Lock()

    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        async with self._reading:
            async for page in super().read(query, **options):
                yield page


@breaks("o12")
class LimitsBeforeItTurns(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        pages = [page async for page in super().read(query, **options)]
        if options.get("backwards") and options.get("limit"):
            everything = [one for one in self._events if query.matches(one.type, one.tags)]
            pages = [Page(everything[: options["limit"]][::-1], pages[-1].upto)]
        for page in pages:
            yield page


@breaks("o13")
class EndsBeforeUpto(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        if options["after"] or options["backwards"] or options["limit"] is not None:
            return page
        return Page([one for one in page if one.position != options["upto"]], page.upto)


@breaks("o14")
class WindowEndsBeforeUpto(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        if not options["after"] or options["backwards"]:
            return page
        return Page([one for one in page if one.position != options["upto"]], page.upto)


@breaks("o15")
class BindsTheLastItemOnly(Bent):
    """As `a OR b AND position > ?` does."""

    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        after = options.get("after", 0)
        async for page in super().read(query, **options):
            if len(query.items) == 2 and after:
                first = query.items[0]
                unbound = [one for one in self._events[:after] if first.matches(one.type, one.tags)]
                page = Page([*unbound, *page], page.upto)
            yield page


@breaks("o16")
class LimitsEachItem(Bent):
    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        limit = options.get("limit")
        if not limit or len(query.items) < 2:
            async for page in super().read(query, **options):
                yield page
            return
        taken: Counter[QueryItem] = Counter()
        kept: list[StoredEvent] = []
        async for page in super().read(query, **options | {"limit": None}):
            for one in page:
                item = next(item for item in query.items if item.matches(one.type, one.tags))
                taken[item] += 1
                if taken[item] <= limit:
                    kept.append(one)
        yield Page(kept, page.upto)


@breaks("o17", nets=["m1"])
class LimitedReadsEndAtTheHead(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        return Page(page, page.upto if options["limit"] is None else min(options["upto"] or self._head, self._head))


@breaks("o18")
class BackwardsReadsEndWhereTheyEnd(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        return Page(page, page[-1].position if page and options["backwards"] else page.upto)


@breaks("o19")
class LosesTheFirstOfAPage(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        return Page(page[1:] if page and page[0].position == 1_001 else page, page.upto)


@breaks("o19")
class EveryPageEndsAtTheHead(Bent):
    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        return Page(page, self._head if len(page) == 1_000 else page.upto)


@breaks("o20")
class LeavesReadsOpen(Bent):
    _open = 0

    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        if self._open == 10:
            raise StoreBusy
        self._open += 1
        async for page in super().read(query, **options):
            yield page
        self._open -= 1


@breaks("o21")
class TakesNegativeForNone(Bent):
    async def read(
        self, query: Query = Query(), *, after: int = 0, limit: int | None = None, **options: Any
    ) -> AsyncIterator[Page]:
        limit = None if limit is None else max(limit, 0)
        async for page in super().read(query, after=max(after, 0), limit=limit, **options):
            yield page


@breaks(nets=["o22"])
class BindsPositionsAsTheyAre(Bent):
    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        if max(options["after"], options["upto"] or 0) >= 2**63:
            raise OverflowError("int too big to convert")
        return options


class Follows(Bent):
    """Follows in a way of its own."""

    async def waits(self, grown: asyncio.Event) -> None:
        await grown.wait()

    async def steps(self, query: Query, after: int) -> AsyncIterator[Page]:
        while True:
            grown = self._grown
            self._check_open()
            if after < self._head:
                async for page in MemoryStore.read(self, query, after=after):
                    yield page
                    after = page.upto
            else:
                await self.waits(grown)

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        if after > self._head:
            raise PositionAhead
        async for page in self.steps(query, after):
            yield page


@breaks("w1")
class RepeatsTheLastEvent(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        last: list[StoredEvent] = []
        woken = 0
        async for page in super().follow(query, after=after):
            woken += bool(last)
            yield Page([*last, *page] if woken > 1 and len(page) == 1 else page, page.upto)
            last = page[-1:]


@breaks("w2")
class FollowsWithoutEmptyPages(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=after):
            if page:
                yield page


@breaks("w3")
class WaitsForWhatIsAhead(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in self.steps(query, after):
            yield page


@breaks("w4")
class FollowsFromAfter(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=max(after - 1, 0)):
            yield page


@breaks("w5")
class FollowsTypesOnly(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        live = self._head
        async for page in super().follow(query, after=after):
            if page.upto > live and query.items:
                types = query.items[0].types
                page = Page([one for one in self._events[live : page.upto] if one.type in types], page.upto)
            yield page


@breaks("w6")
class FollowersShareAPlace(Follows):
    _place = 0

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=max(after, self._place)):
            self._place = page.upto
            yield page


@breaks("w7")
class SkipsWhatASlowFollowerMissed(Follows):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=after):
            if self._head - page.upto < 1_000:
                yield page


@breaks("w8")
class TellsOfRepeatedAppends(Follows):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        before = self._head
        result = await super().append(events, *args, **options)
        if before == self._head:
            self._again = [*getattr(self, "_again", []), *self._events[result.first - 1 : result.last]]
        return result

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=after):
            yield Page([*getattr(self, "_again", []), *page], page.upto)
