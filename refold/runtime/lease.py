"""Who may write for a subscription: one owner at a time, through crashes and stalls.

A checkpoint is a row that bears the number of its ownership. What an owner writes it writes in one step with that row,
if the row is as it left it: one that was stalled, and replaced meanwhile, can write nothing. Others take over at once
when the owner stops, or when they see that its process is gone; otherwise when its row has stood still for a while,
which they ask it to prevent: now and then where they see that its process is there. No clock is compared with
another's.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from refold.errors import StoreError
from refold.runtime.books import CHECKPOINTS, REQUESTS, Books, Checkpoint, Request
from refold.runtime.owner import Owner, is_gone, is_there
from refold.view.api import Expect, Put, Write

LEASE_SECONDS = 3.0
"""How long the row of an owner may stand still that was asked to move it, until it is taken over."""
BEAT_SECONDS = 1.0
"""How often an owner moves its row that was asked to; and how long it may stand still until it is asked."""
ASKED_SECONDS = 3.0
"""How long it goes on to, after it was asked last."""
VISIBLE_SECONDS = 5.0
"""How long the row of an owner may stand still until it is asked, if its process is seen to be there."""
LOOK_SECONDS = 0.25
"""How often those who wait look whether the owner has gone."""

logger = logging.getLogger("refold.subscription")


class LeaseLost(Exception):
    """Another process has taken over."""


class Lease:
    """The right to write for a subscription."""

    def __init__(
        self, subscription: str, books: Books, owner: Owner, begin: int = 0, while_: Expect | None = None
    ) -> None:
        """Begin at a position where there is no checkpoint, and only while something is so."""
        self.row: Checkpoint | None = None
        """The checkpoint as it was written last; None while somebody else may own it."""
        self.written_at = 0.0
        """When, by the clock of the loop."""
        self._subscription = subscription
        self._books = books
        self._owner = owner
        self._begin = begin
        self._while = [] if while_ is None else [while_]
        self._writing = asyncio.Lock()
        self._asked_at = -ASKED_SECONDS

    def mine(self) -> Checkpoint:
        """Return the checkpoint, or raise `LeaseLost`."""
        if self.row is None:
            raise LeaseLost
        return self.row

    async def claim(self, seen: Callable[[int], None]) -> None:
        """Wait until it is this app's; tell how far the subscription comes meanwhile."""
        last: Checkpoint | None = None
        since = 0.0
        asked: float | None = None
        """When it was asked to move the row, which has not moved since."""
        while self.row is None:
            row = await self._books.checkpoint(self._subscription)
            if self._is_free(row):
                if await self._take(row):
                    return
            elif row is None or row != last:
                last, since, asked = row, _now(), None
                seen(row.position if row else 0)
            elif asked is not None and _now() - asked > LEASE_SECONDS:
                logger.warning("%s: its owner has stood still for %g s", self._subscription, _now() - since)
                if await self._take(row):
                    return
            elif asked is None and _now() - since > (VISIBLE_SECONDS if is_there(row.owner) else BEAT_SECONDS):
                asked = _now()
                await self._books.write(Put(REQUESTS, [Request(self._subscription, "beat")]))
            await asyncio.sleep(LOOK_SECONDS)

    async def claim_if_free(self) -> int:
        """Take it if nobody has it; return how far the subscription has come."""
        row = await self._books.checkpoint(self._subscription)
        if self._is_free(row):
            await self._take(row)
        return row.position if row else self._begin

    async def write(self, writes: Sequence[Write], upto: int | None = None) -> None:
        """Write in one step with the checkpoint, and move that on; raise `LeaseLost` if another has taken over."""
        async with self._writing:
            old = self.mine()
            row = replace(old, beat=old.beat + 1, trouble="")
            if upto is not None and upto > old.position:
                row = replace(row, position=upto, moved_at=datetime.now(UTC))
            if not await self._books.write(*writes, Put(CHECKPOINTS, [row]), expects=[_as_left(old)]):
                self.row = None
                raise LeaseLost
            self.row = row
            self.written_at = _now()

    async def beat(self, *, asked: bool) -> None:
        """Move the row, if somebody has asked for it and nothing else does."""
        if asked:
            self._asked_at = _now()
        is_due = _now() < self._asked_at + ASKED_SECONDS and _now() > self.written_at + BEAT_SECONDS
        if is_due and not self._writing.locked():
            await self.write([])

    async def release(self, position: int, trouble: str) -> None:
        """Let others go on, from where it stands or from `position` if that is further."""
        for _ in range(2):
            if self.row is None:
                return
            row = self.row
            free = replace(row, owner="", position=max(position, row.position), trouble=trouble)
            if await self._books.write(Put(CHECKPOINTS, [free]), expects=[_as_left(row)]):
                self.row = None
                return
            await self.refresh()  # the last write was given up by its caller, but done

    async def refresh(self) -> None:
        """Read the row again after a failure: what was being written may have been written."""
        if self.row is None:
            return
        try:
            row = await self._books.checkpoint(self._subscription)
        except StoreError:
            return
        mine = row is not None and (row.owner, row.epoch) == (self._owner.name, self.row.epoch)
        self.row = row if mine else None

    def _is_free(self, row: Checkpoint | None) -> bool:
        # One's own can be there if an answer was lost, after which nobody knows what was written.
        return row is None or not row.owner or row.owner == self._owner.name or is_gone(row.owner)

    async def _take(self, row: Checkpoint | None) -> bool:
        """Become the owner, if nobody else does."""
        old = row or Checkpoint(self._subscription, self._begin)
        new = replace(old, epoch=old.epoch + 1, owner=self._owner.name, beat=old.beat + 1)
        expects = [_as_left(row)] if row else [Expect(CHECKPOINTS, (self._subscription,)), *self._while]
        if not await self._books.write(Put(CHECKPOINTS, [new]), expects=expects):
            return False
        self.row = new
        self.written_at = _now()
        return True


def _as_left(row: Checkpoint) -> Expect:
    """Return the expectation that a checkpoint is as its owner left it."""
    values = {"epoch": row.epoch, "position": row.position, "owner": row.owner, "beat": row.beat}
    return Expect(CHECKPOINTS, (row.subscription,), values)


def _now() -> float:
    return asyncio.get_running_loop().time()
