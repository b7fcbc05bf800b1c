"""Counting clicks: a log of few words, and the same view in several definitions, for the tests of projections."""

from decimal import Decimal
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Event, Projection, Row, Rows, State, Tag

Page: TypeAlias = Annotated[str, Tag("page")]


class Clicked(Event):
    page: Page
    times: int = 1


class Failing(Event):
    """An event that fails while its page is broken."""

    page: Page
    times: int = 1


class Broken:
    """The pages whose `Failing` events fail. Tests change them as a mended library would: without a new definition."""

    def __init__(self) -> None:
        self.pages: set[str] = set()

    def __contains__(self, page: str) -> bool:
        return page in self.pages

    def add(self, page: str) -> None:
        self.pages.add(page)

    def clear(self) -> None:
        self.pages.clear()


BROKEN = Broken()


class Clicks(State):
    page: Page
    clicks: int = 0

    def evolve(self, event: Clicked | Failing) -> Self:
        if isinstance(event, Failing) and self.page in BROKEN:
            raise ValueError(f"{self.page} is broken")
        return self.replace(clicks=self.clicks + event.times)


FirstClicks = Clicks


class _Doubled:
    class Clicks(State):
        """The same fields, another meaning."""

        page: Page
        clicks: int = 0

        def evolve(self, event: Clicked | Failing) -> Self:
            return self.replace(clicks=self.clicks + 2 * event.times)

    class Widened(State):
        """One more field."""

        page: Page
        clicks: int = 0
        events: int = 0
        price: Decimal = Decimal()

        def evolve(self, event: Clicked | Failing) -> Self:
            return self.replace(clicks=self.clicks + event.times, events=self.events + 1)


Doubled = _Doubled.Clicks
Widened = _Doubled.Widened
Widened.__name__ = "Clicks"


class Busy(Row):
    page: Page
    clicks: int = 0


class Tally(Row):
    name: str
    pages: int = 0


class BusyPages(Projection):
    """Pages with more than two clicks, and how many they are."""

    rows = (Busy, Tally)

    async def apply(self, event: Clicked | Failing, rows: Rows) -> None:
        if isinstance(event, Failing) and event.page in BROKEN:
            rows.put(Busy(event.page, 999))  # must be undone
            raise ValueError(f"{event.page} is broken")
        if event.times < 0:
            rows.delete(Busy, event.page)
        else:
            busy = await rows.get(Busy, event.page) or Busy(event.page)
            rows.put(busy.replace(clicks=busy.clicks + event.times))
        rows.put(Tally("busy", await rows.count(Busy, {"clicks__gt": 2})))


def clicks(log: Any, *projections: Any, **options: Any) -> App:
    return App(log, events=Clicked | Failing, projections=projections or [Clicks], **options)
