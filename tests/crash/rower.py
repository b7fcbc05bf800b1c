"""The process that is killed: `rower.py URL RUN [commits]` moves money between accounts that are rows, without end.

Each command has an id, and some are repeated; a deposit is told of when it is done.
"""

import asyncio
import os
import sys
from contextlib import suppress
from itertools import count
from random import Random

from refold import Rejected
from refold.store.open import open_store
from refold.store.sqlite import SqliteStore
from refold.testing import faults
from tests.runtime.bank import Balance, Deposit, Deposited, Drain, Transfer, Withdraw, bank

ACCOUNTS = "abcdef"


async def main(url: str, run: str, commits: str = "") -> None:
    store = await open_store(url)
    if commits and isinstance(store, SqliteStore):
        numbers = count()
        store.database.before_commit = lambda: faults.kill_self() if next(numbers) == int(commits) else None

    async def work(who: int) -> None:
        random = Random(f"{run} {who}")
        for number in count():
            source, target = random.sample(ACCOUNTS, 2)
            asked = random.choice(
                [
                    Deposit(source, 5),
                    Deposit(source, 5),
                    Transfer(source, target, 3),
                    Withdraw(source, 4),
                    Drain(source),
                ]
            )
            own_id = f"{run}/{who}/{number}"
            with suppress(Rejected):
                for _ in range(random.choice((1, 1, 2))):
                    await app.execute(asked, id=own_id)
                    if isinstance(asked, Deposit):  # of the others sometimes nothing comes
                        os.write(1, f"{own_id}\n".encode())
            if number % 7 == 0:
                await app.record(Deposited(source, 1), Deposited(target, 1), id=f"{own_id}/r")

    async with bank(store, rows=[Balance]) as app:
        os.write(1, b"open\n")
        await asyncio.gather(*[work(who) for who in range(6)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
