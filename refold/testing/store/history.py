"""Rule K13: what callers saw while they raced is what some order of their calls explains.

Every call notes the moments it began and ended. The positions give the order of the appends; a read belongs behind the
append that its `upto` names. The log is linearizable if that order contradicts no pair of calls of which one
had ended before the other began.
"""

import asyncio
import random
from itertools import count
from typing import Literal

from msgspec import Struct

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import StoredEvent
from refold.store.api import Store
from refold.testing.store.concurrency import gather_at_once
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import event, pages, positions, read


class Call(Struct):
    """A call as its caller saw it: an append ends at `upto`; a read saw the log up to there; so did a refusal."""

    kind: Literal["append", "read", "conflict"]
    began: int
    ended: int
    first: int
    upto: int
    seen: list[int]


class Recorder:
    """Calls a store and notes what came of it, by a clock that ticks at each beginning and end."""

    def __init__(self, store: Store) -> None:
        self.calls: list[Call] = []
        self._store = store
        self._ticks = count(1)

    async def read(self) -> int:
        """Read everything."""
        began = next(self._ticks)
        found = await pages(self._store)
        seen = positions([one for page in found for one in page])
        self.calls.append(Call("read", began, next(self._ticks), 0, found[-1].upto, seen))
        return found[-1].upto

    async def append(self, size: int, tag: str, after: int) -> None:
        """Append on the condition that nothing with the tag is newer than `after`."""
        began = next(self._ticks)
        condition = AppendCondition(Query.of(tags=tag), after)
        try:
            result = await self._store.append([event("Noted", tag) for _ in range(size)], condition)
        except Conflict:
            self.calls.append(Call("conflict", began, next(self._ticks), 0, after, []))
            return
        self.calls.append(Call("append", began, next(self._ticks), result.first, result.last, []))


def check_history(calls: list[Call], log: list[StoredEvent]) -> None:
    """Check that the order of the log explains what every caller saw."""
    at = positions(log)
    appends = sorted((one for one in calls if one.kind == "append"), key=lambda one: one.upto)
    assert [one.upto for one in appends if one.upto not in at] == []
    for call in calls:
        if call.kind == "read":
            assert call.seen == [one for one in at if one <= call.upto], "a read is not a prefix of the log"
        if call.kind == "conflict":
            reasons = [one for one in appends if one.upto > call.upto and one.began < call.ended]
            assert reasons, "a conflict that no append explains"
    placed = [one for one in calls if one.kind != "conflict"]
    for call in placed:
        for later in placed:
            if call.ended < later.began:
                if later.kind == "append":
                    assert call.upto < later.first, f"{later} went before {call}"
                else:
                    assert call.upto <= later.upto, f"{later} overlooked {call}"


class HistoryRules(StoreRules):
    """What callers saw while they raced is what some order of their calls explains."""

    @rule(net=True)
    async def test_k13_linearizable(self, bench: Bench) -> None:
        """K13: appends and reads that race are as if each had happened at one moment between its begin and end."""
        store = await bench.open()
        recorder = Recorder(store)

        async def work(seed: int) -> None:
            rng = random.Random(seed)  # noqa: S311 - drawn to be repeatable, not to be secret
            for _ in range(12):
                upto = await recorder.read()
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                await recorder.append(rng.randint(1, 3), f"t:{rng.randrange(4)}", upto)

        results = await gather_at_once(*(work(n) for n in range(12)))
        assert results == [None] * 12
        kinds = {one.kind for one in recorder.calls}
        assert {"append", "read"} <= kinds
        check_history(recorder.calls, await read(store))
