"""The check against real history: whether a program reads every stored event, and folds every state and view of them.

Only what is pure runs: decoding, upcasters, `evolve`; and the `apply` of projections with tables, whose rows go to a
file that is removed. No projection, process or effect of the app does. The log is read in pages up to the head of the
beginning, and nothing is written or locked, so that it may be in use.

It goes in two passes, each shared among worker processes. The first reads ranges of positions: it decodes and upcasts,
counts by type and version, and learns about how many keys there are of each tag. The second folds. A state cannot be
folded by ranges, so workers share the keys by their hashes: each reads the log, and decodes and folds what is about
its keys. There are as many shares as keep one below about 400,000 states; that bounds the memory of each worker,
however long the log is. A single worker folds while it decodes, as long as the states are no more than that. Where
only some keys are asked for, a sample is taken evenly by hash, and each key read by itself.
"""

import asyncio
import multiprocessing
import pickle
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from math import ceil

from msgspec import Struct

from refold.contract.found import SKETCHED, Failure, Found, Program, estimate
from refold.contract.reading import Keys, Range, Share, Tables, Task, work
from refold.errors import InvalidQuery, StoreError, WiringError
from refold.model.message import StoredAs, stored_name
from refold.model.state import State, state_kind
from refold.store.open import open_store

RANGE = 100_000
"""How many positions are read at a time, at most."""
STATES_IN_A_SHARE = 400_000
"""About so many are in the memory of a worker."""
KEYS_AT_A_TIME = 50

Move = Callable[[int, int, str], None]
"""Is told how many positions, or parts of the folding, are done, of how many, and what is done."""


class TypeCount(Struct, frozen=True):
    """How many events of a type and version there are."""

    type: str
    version: int
    becomes: tuple[str, ...]
    """The classes of what they are by now; empty if they are dropped, or unknown."""
    events: int
    decoded: int
    failed: int


class FoldedCount(Struct, frozen=True):
    """How many states of a class, or rows of a projection with tables, were folded, and how many events into them."""

    name: str
    keys: int
    events: int
    failed: int


class Report(Struct, frozen=True):
    """What a check against history has found."""

    head: int
    events: int
    types: tuple[TypeCount, ...]
    folded: tuple[FoldedCount, ...]
    failed: int
    failures: tuple[Failure, ...]
    """The first ones, by position."""
    seconds: float
    left_out: tuple[str, ...] = ()
    """What was not checked, and why."""


async def check_history(
    program: Program,
    url: str,
    *,
    sample: int | None = None,
    keys: int | None = None,
    workers: int = 1,
    move: Move = lambda done, total, what: None,
) -> Report:
    """Decode, upcast and fold the log at an address; return what was found.

    With `sample` about so many events of each type and version are decoded, spread over the log. With `keys` the
    states of about so many keys are folded, and projections with tables, whose rows depend on each other, are left out.
    Raises `StoreError` if the log cannot be read, and `WiringError` if workers cannot be sent what the program is.
    """
    if workers < 1 or (sample is not None and sample < 1) or (keys is not None and keys < 0):
        raise InvalidQuery("workers and sample are at least 1, and keys at least 0")
    begun = time.monotonic()
    store = await open_store(url, create=False)
    try:
        head = await store.head()
    finally:
        await store.close()
    found, sketched = Found(), max(SKETCHED, keys or 0)
    async with _team(program, url, workers) as do:
        if workers == 1 and sample is None and keys is None:
            whole = Range(0, head, None, sketched, program.states, STATES_IN_A_SHARE)
            found = await work(program, url, whole, lambda position: move(position, head, "decoding and folding"))
        else:
            ranges = _ranges(head, workers, sample, sketched)
            await _all(do, ranges, found, sketched, lambda n: move(min(n * ranges[0].upto, head), head, "decoding"))
        tasks = _folding(program, head, found, keys, workers)
        await _all(do, tasks, found, sketched, lambda n: move(n, len(tasks), "folding"))
    return _report(program, head, found, keys, time.monotonic() - begun)


def _ranges(head: int, workers: int, sample: int | None, sketched: int) -> list[Range]:
    size = max(1, min(RANGE, ceil(head / workers)))
    parts = max(1, ceil(head / size))
    # A sample of all is made of samples of its ranges.
    each = None if sample is None else max(2, ceil(sample / parts))
    return [Range(after, min(after + size, head), each, sketched) for after in range(0, max(head, 1), size)]


def _folding(program: Program, head: int, found: Found, keys: int | None, workers: int) -> list[Task]:
    """Return the parts in which states are folded, by what was learnt of their keys."""
    if not head:
        return []
    schema = program.schema()
    found_by_tag: dict[str, list[type[State]]] = {}
    whole: list[type[State]] = []
    for cls in () if found.folded_all else program.states:
        kind = state_kind(cls)
        if keys is not None and kind.keys and schema.missed(kind) is None:
            found_by_tag.setdefault(kind.keys[0].tag.name, []).append(cls)
        else:
            whole.append(cls)
    tasks: list[Task] = [] if keys is not None else [Tables(place, head) for place in range(len(program.tables))]
    for name, states in found_by_tag.items():
        tags = list(found.keys.get(name, {}).values())[:keys]
        starts = range(0, len(tags), KEYS_AT_A_TIME)
        tasks += [Keys(tuple(states), head, tuple(tags[start : start + KEYS_AT_A_TIME])) for start in starts]
    if whole:
        shares = max(ceil(_states(whole, found) / STATES_IN_A_SHARE), workers)
        tasks += [Share(tuple(whole), head, share, shares) for share in range(shares)]
    return tasks


def _states(states: Iterable[type[State]], found: Found) -> int:
    """Return about how many states there are of some classes."""
    total = 0
    for cls in states:
        kind = state_kind(cls)
        total += estimate(found.keys.get(kind.keys[0].tag.name, {})) if kind.keys else 1
    return total


async def _all(
    do: "Callable[[Task], asyncio.Future[Found]]",
    tasks: Sequence[Task],
    found: Found,
    sketched: int,
    moved: Callable[[int], None],
) -> None:
    """Have all tasks done, and add up what they find."""
    waiting = [do(task) for task in tasks]
    try:
        for done, each in enumerate(asyncio.as_completed(waiting), 1):
            found.add(await each, sketched)
            moved(done)
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@asynccontextmanager
async def _team(program: Program, url: str, workers: int) -> AsyncGenerator[Callable[[Task], asyncio.Future[Found]]]:
    """Give what does a task: one after the other here, or in so many processes."""
    if workers == 1:
        turn = asyncio.Semaphore(1)

        async def here(task: Task) -> Found:
            async with turn:
                return await work(program, url, task)

        yield lambda task: asyncio.ensure_future(here(task))
        return
    try:
        recipe = pickle.dumps(program)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise WiringError(
            f"the program cannot be sent to workers ({error}): define events, states and upcasters at the top level of "
            "a module, or check with one worker"
        ) from error
    # Not forked: a copy of this process would have its threads and connections.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    loop = asyncio.get_running_loop()
    try:
        yield lambda task: loop.run_in_executor(pool, _in_worker, recipe, url, task)
    except BrokenProcessPool as error:
        raise StoreError(f"a worker of the check ended before its time: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_worker(recipe: bytes, url: str, task: Task) -> Found:
    return asyncio.run(work(pickle.loads(recipe), url, task))  # noqa: S301 - from the process that started this


def _report(program: Program, head: int, found: Found, keys: int | None, seconds: float) -> Report:
    schema = program.schema()
    current = (*schema.events, *schema.built_in)
    becomes: dict[StoredAs, tuple[str, ...]] = {stored_name(kind): (kind.__name__,) for kind in current}
    becomes |= {stored_name(old): tuple(kind.__name__ for kind in schema.becomes(old)) for old in schema.old_events}
    types = tuple(
        TypeCount(*key, becomes.get(StoredAs(*key), ()), count.events, count.decoded, count.failed)
        for key, count in sorted(found.counts.items())
    )
    folded = tuple(
        FoldedCount(name, each.keys, each.events, each.failed) for name, each in sorted(found.folded.items())
    )
    left_out: list[str] = []
    if keys is not None and program.tables:
        left_out.append("projections with tables of their own: their rows depend on all keys; check without --keys")
    return Report(
        head=head,
        events=sum(each.events for each in types),
        types=types,
        folded=folded,
        failed=sum(each.failed for each in types) + sum(each.failed for each in folded),
        failures=tuple(found.failures),
        seconds=seconds,
        left_out=tuple(left_out),
    )
