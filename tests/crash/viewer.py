"""The process that is killed: `viewer.py PATH RUN [commits]` asks without end, keeps views, and answers."""

import asyncio
import sys
from itertools import count
from random import Random

from refold import App
from refold.store.sqlite import SqliteStore
from refold.testing import faults
from tests.crash.asking import Asked, asking_app


async def ask(app: App, run: str, who: int) -> None:
    random = Random(f"{run} {who}")
    for number in count():
        voices = tuple(random.sample("abcdef", random.randrange(3)))
        await app.record(Asked(f"t-{random.randrange(4)}", voices, number), actor=f"ask-{who}")
        await asyncio.sleep(random.choice((0, 0, 0.003)))


async def main(path: str, run: str, commits: str = "") -> None:
    store = await SqliteStore.open(path)
    if commits:
        numbers = count()
        store.database.before_commit = lambda: faults.kill_self() if next(numbers) == int(commits) else None
    print("open", flush=True)
    async with asking_app(store) as app:
        await asyncio.gather(*[ask(app, run, who) for who in range(3)])


asyncio.run(main(*sys.argv[1:]))
