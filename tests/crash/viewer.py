"""The process that is killed: `viewer.py URL RUN MODE GENERATION [commits]`.

It asks without end, keeps views, and answers; or only catches up; or rebuilds a view with workers of its own.
"""

import asyncio
import sys
from itertools import count
from random import Random

from refold import App
from refold.store.open import open_store
from refold.store.sqlite import SqliteStore
from refold.testing import faults
from tests.crash.asking import Asked, asking_app


async def ask(app: App, run: str, who: int) -> None:
    random = Random(f"{run} {who}")
    for number in count():
        voices = tuple(random.sample("abcdef", random.randrange(3)))
        await app.record(Asked(f"t-{random.randrange(4)}", voices, number), actor=f"ask-{who}")
        await asyncio.sleep(random.choice((0, 0, 0.003)))


async def main(url: str, run: str, mode: str, generation: str, commits: str = "") -> None:
    if mode == "rebuild":
        async with asking_app(url, int(generation)).passive() as app:
            print("open", flush=True)
            for name in ("TopicSummary", "VoiceSummary"):
                await app.operations.rebuild(name, workers=2)
            await asyncio.sleep(60)
    store = await open_store(url)
    if commits and isinstance(store, SqliteStore):
        numbers = count()
        store.database.before_commit = lambda: faults.kill_self() if next(numbers) == int(commits) else None
    print("open", flush=True)
    async with asking_app(store, int(generation)) as app:
        if mode == "catch-up":
            await asyncio.sleep(60)
        await asyncio.gather(*[ask(app, run, who) for who in range(3)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
