"""A process that appends until it is killed, and says on stdout what was acknowledged: `worker.py URL RUN`."""

import asyncio
import sys

from refold.store.open import open_store
from refold.testing.crash import write


async def main(url: str, run: str) -> None:
    store = await open_store(url)
    await write(store, run, lambda ack: print(ack, flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
