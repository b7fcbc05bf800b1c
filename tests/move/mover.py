"""The process that is killed: `mover.py import|transform FROM TO MAP`, in small batches."""

import asyncio
import sys

from refold.move import imports, transform
from refold.store.open import open_store

imports.BATCH_EVENTS = transform.BATCH_EVENTS = 50


async def main(what: str, source: str, target: str, positions: str) -> None:
    into = await open_store(target)
    print("open", flush=True)
    if what == "import":
        await imports.import_(source, into, positions=positions)
    else:
        log = await open_store(source, create=False)
        await transform.transform(log, into, positions=positions)
        await log.close()
    await into.close()


asyncio.run(main(*sys.argv[1:]))
