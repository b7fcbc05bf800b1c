"""Side by side, but in turn: what shares a tag is done one after the other, all else at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

AT_ONCE = 200
"""How much is done side by side, if nobody says."""

Job: TypeAlias = tuple[Sequence[str], Callable[[], Awaitable[None]]]
"""What is to be done, and the tags that it shares with what has to be done before or after it."""


async def in_turn(jobs: Iterable[Job], at_once: int | None = None) -> None:
    """Do jobs side by side, but those that share a tag one after the other; if one fails, let go of all."""
    permits = asyncio.Semaphore(at_once or AT_ONCE)
    last: dict[str, asyncio.Task[None]] = {}
    tasks: list[asyncio.Task[None]] = []

    async def run(before: set[asyncio.Task[None]], job: Callable[[], Awaitable[None]]) -> None:
        for task in before:
            await task
        async with permits:
            await job()

    try:
        for tags, job in jobs:
            before = {last[tag] for tag in tags if tag in last}
            task = asyncio.create_task(run(before, job))
            tasks.append(task)
            last.update(dict.fromkeys(tags, task))
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
