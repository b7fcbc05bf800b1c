"""What a subscription runs: what does the work, what it reads, and what rings at a time."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime.books import Parked
from refold.runtime.parking import Parking
from refold.store.api import Page
from refold.view.api import Write


class Worker(Protocol):
    """What a subscription does with the events that it reads."""

    @property
    def query(self) -> Query:
        """Which events it reads."""
        ...

    async def handle(self, page: Page, parking: Parking) -> int:
        """Handle a page, parking what fails; return how much there is to write now, 0 if nothing was done."""
        ...

    def take(self) -> Sequence[Write]:
        """Return what is to be written of the pages handled so far."""
        ...

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Handle an event that was parked, for its key alone; return what is to be written."""
        ...

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event for all its keys: what it led to could not be written."""
        ...

    def forget(self) -> None:
        """Forget what was remembered of rows, and what is not written: another process may have written them."""
        ...


class Source(Protocol):
    """What a subscription reads: a log, or what comes in."""

    def follow(self, query: Query, *, after: int = 0) -> AsyncIterator[Page]:
        """Give what is after a position, and what comes, for ever."""
        ...

    def read(self, query: Query = ..., *, after: int = 0, upto: int | None = None) -> AsyncIterator[Page]:
        """Give what is after a position, and up to another."""
        ...

    async def head(self) -> int:
        """Return the last position."""
        ...


class Alarm(Protocol):
    """What is to be done at a time, rather than for an event."""

    def seconds(self) -> float | None:
        """Return in how many seconds something is due; None if nothing is."""
        ...

    async def load(self) -> None:
        """Learn when something is due."""
        ...

    async def fire(self, parking: Parking, upto: int) -> list[Write]:
        """Do what is due, after the events up to a position; return what is to be written then."""
        ...

    async def again(self, parked: Parked) -> Sequence[Write]:
        """Do what was parked; return what is to be written then."""
        ...
