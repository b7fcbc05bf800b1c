"""What has failed and waits, and what is asked of those who run it: to try it again, or to skip it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from refold.errors import InvalidQuery, RefoldError, WaitTimeout
from refold.runtime.books import PARKED, REQUESTS, SKIPPED, Action, Books, Parked, Request, Skipped
from refold.runtime.owner import is_gone
from refold.runtime.subscription import POLL_SECONDS, Subscription
from refold.view.api import Delete, Put

MEND_SECONDS = 30.0
"""How long it may take until the owner of a subscription has done what was asked."""
MEND_AT_ONCE = 100
"""How much is asked of it at once."""


class Mending:
    """Asks the owners of subscriptions, wherever they run, by what is in the books; and hears what is asked here."""

    def __init__(self, books: Sequence[Books], here: Callable[[], list[Subscription]]) -> None:
        """Work with books; `here` gives the subscriptions of this app."""
        self._books = books
        self._here = here

    async def parked(self, name: str | None = None, limit: int | None = None) -> list[Parked]:
        """Return what is parked, of one projection or process or all, the first so many in the order of positions."""
        rows: list[Parked] = []
        for books in self._books:
            for where in _of(name):
                rows += await books.find(PARKED, where, limit, order="position")
        return sorted(rows, key=lambda row: (row.position, row.subscription, row.parked_at))[:limit]

    async def skipped(self, limit: int | None = None) -> list[Skipped]:
        """Return what was skipped, when, by whom and why: the last so many."""
        rows: list[Skipped] = []
        for books in self._books:
            rows += await books.find(SKIPPED, None, limit, order="-skipped_at")
        rows.sort(key=lambda row: row.skipped_at, reverse=True)
        return rows[:limit][::-1]

    async def living(self, parked: Sequence[Parked]) -> list[Parked]:
        """Leave out what is parked of versions that are not read, and that nobody keeps up: a rebuild was given up."""
        subscriptions = {each.subscription for each in parked}
        left: set[str] = set()
        for books in self._books if any("@" in name for name in subscriptions) else ():
            for version in await books.versions():
                for name in subscriptions.intersection(version.subscriptions()):
                    if version.status != "active" and await self._why_not(books, name):
                        left.add(name)
        return [each for each in parked if each.subscription not in left]

    async def mend(
        self, parked: Sequence[Parked], action: Action, reason: str = "", actor: str = ""
    ) -> dict[str, RefoldError]:
        """Have the owners of subscriptions try parked events again, or skip them.

        Returns which subscriptions have not done all of it, each with why; it is not asked of them any more then.
        """
        found: list[tuple[Books, Parked]] = []
        for each in sorted(parked, key=lambda each: (each.position, each.subscription, each.key)):
            books = await self._books_of(each)
            if books is not None:
                found.append((books, each))
            elif action != "retry":  # else it has gone well meanwhile
                raise InvalidQuery(f"nothing is parked at position {each.position} of {each.subscription}")
        parts = [found[start : start + MEND_AT_ONCE] for start in range(0, len(found), MEND_AT_ONCE)]
        failures: dict[str, RefoldError] = {}
        # What is skipped, from the last on: what fails first is what the others wait behind.
        for part in parts if action == "retry" else reversed(parts):
            left = [(books, each) for books, each in part if each.subscription not in failures]
            failures |= await self._mend(left, action, reason, actor)
        return failures

    async def _mend(
        self, found: Sequence[tuple[Books, Parked]], action: Action, reason: str, actor: str
    ) -> dict[str, RefoldError]:
        """Ask for it, and wait until it is done, or cannot be."""
        asked = [
            (books, Request(each.subscription, action, each.position, each.key, reason, actor)) for books, each in found
        ]
        for books in dict.fromkeys(books for books, _ in asked):
            await books.write(Put(REQUESTS, [request for its, request in asked if its is books]))
        for subscription in self._here():
            mine = [request for _, request in asked if request.subscription == subscription.name]
            if mine and subscription.owned:
                await subscription.ask(mine)
        loop = asyncio.get_running_loop()
        end = loop.time() + MEND_SECONDS
        failures: dict[str, RefoldError] = {}
        while asked := await _open(asked):
            for books, name in dict.fromkeys((books, request.subscription) for books, request in asked):
                failure = await self._why_not(books, name)
                if failure is None and loop.time() > end:
                    failure = WaitTimeout(
                        f"{name} has not done in {MEND_SECONDS:g} s all that it was asked, and is not asked any more",
                        subscription=name,
                    )
                if failure is not None:
                    failures[name] = failure
            given_up = [each for each in asked if each[1].subscription in failures]
            for books in dict.fromkeys(books for books, _ in given_up):
                keys = [REQUESTS.key_of(request) for its, request in given_up if its is books]
                await books.write(Delete(REQUESTS, keys))
            asked = [each for each in asked if each not in given_up]
            if asked:
                await asyncio.sleep(POLL_SECONDS)
        return failures

    async def _why_not(self, books: Books, name: str) -> RefoldError | None:
        """Return why nobody does what is asked of a subscription; None if somebody may."""
        here = next((each for each in self._here() if each.name == name), None)
        if here is not None and here.failure is None:
            return None
        checkpoint = await books.checkpoint(name)
        if checkpoint is not None and checkpoint.owner and not is_gone(checkpoint.owner):
            return None
        if here is not None:
            return InvalidQuery(f"{name} has stopped: see why, start the app again, and ask again")
        return InvalidQuery(f"nobody runs {name}: start the app, `refold run module:app`, and ask again")

    async def _books_of(self, parked: Parked) -> Books | None:
        for books in self._books:
            if await books.views.get(PARKED, [PARKED.key_of(parked)]):
                return books
        return None

    async def hear(self, books: Books) -> None:
        """Pass on what is asked to the subscriptions that this app owns."""
        requests: list[Request] = await books.find(REQUESTS)
        heard: list[Request] = []
        for subscription in self._here():
            if subscription.books is books and subscription.owned:
                mine = [each for each in requests if each.subscription == subscription.name]
                await subscription.ask(mine)
                heard += [each for each in mine if each.action == "beat"]
        if heard:
            await books.write(Delete(REQUESTS, [REQUESTS.key_of(each) for each in heard]))


async def _open(asked: Sequence[tuple[Books, Request]]) -> list[tuple[Books, Request]]:
    """Return what was asked and is not done yet."""
    left: list[tuple[Books, Request]] = []
    for books in dict.fromkeys(books for books, _ in asked):
        mine = [request for its, request in asked if its is books]
        there = await books.views.get(REQUESTS, [REQUESTS.key_of(each) for each in mine])
        left += [(books, each) for each in mine if REQUESTS.key_of(each) in there]
    return left


def named(subscription: str) -> str:
    """Return the name of the projection or process that a subscription belongs to."""
    return subscription.partition("@")[0]


def _of(name: str | None) -> list[dict[str, Any]]:
    """Return conditions for the subscriptions of one projection or process, or all: each row meets one of them."""
    if name is None:
        return [{}]
    return [{"subscription": name}, {"subscription__ge": f"{name}@", "subscription__lt": f"{name}A"}]  # A comes after @
