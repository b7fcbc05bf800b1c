"""What has failed and waits, and what is asked of those who run it: to try it again, or to skip it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from refold.errors import InvalidQuery, WaitTimeout
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

    async def mend(self, parked: Sequence[Parked], action: Action, reason: str = "", actor: str = "") -> None:
        """Have the owners of subscriptions try parked events again, or skip them."""
        found: list[tuple[Books, Parked]] = []
        for each in sorted(parked, key=lambda each: (each.position, each.subscription, each.key)):
            books = await self._books_of(each)
            if books is not None:
                found.append((books, each))
            elif action != "retry":  # else it has gone well meanwhile
                raise InvalidQuery(f"nothing is parked at position {each.position} of {each.subscription}")
        parts = [found[start : start + MEND_AT_ONCE] for start in range(0, len(found), MEND_AT_ONCE)]
        # What is skipped, from the last on: what fails first is what the others wait behind.
        for part in parts if action == "retry" else reversed(parts):
            await self._mend(part, action, reason, actor)

    async def _mend(self, found: Sequence[tuple[Books, Parked]], action: Action, reason: str, actor: str) -> None:
        """Ask for it, and wait until it is done."""
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
        while asked := await _open(asked):
            books, request = asked[0]
            await self._check_runs(books, request)
            if loop.time() > end:
                raise WaitTimeout(f"{request.subscription} has not done in {MEND_SECONDS:g} s what was asked of it")
            await asyncio.sleep(POLL_SECONDS)

    async def _check_runs(self, books: Books, request: Request) -> None:
        """Take a request back if there is nobody who could do it."""
        name = request.subscription
        if any(each.name == name for each in self._here()):
            return
        checkpoint = await books.checkpoint(name)
        if not checkpoint or not checkpoint.owner or is_gone(checkpoint.owner):
            requests: list[Request] = await books.find(REQUESTS, {"subscription": name, "action": request.action})
            await books.write(Delete(REQUESTS, [REQUESTS.key_of(each) for each in requests]))
            raise InvalidQuery(f"nobody runs {name}: start the app, `refold run module:app`, and ask again")

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
