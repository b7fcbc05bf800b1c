"""Finding events: how fast a log is indexed, and how long searches of a large one take, with an index and without."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec.structs import replace
from rich.table import Table

from bench.measure import Options, console, missed
from bench.orders import Feed, customer_of, open_app, order_id
from bench.reads import BATCH
from refold import App
from refold.model.query import Query
from refold.model.record import Metadata
from refold.runtime.ids import new_id
from refold.runtime.index import Findings, Index
from refold.store.sqlite import SqliteStore

TARGET = 0.5
"""Seconds until an answer, at most."""
WORDS = ("green", "black", "white", "herbal", "smoked", "oolong", "ceylon", "assam", "rooibos", "sencha")
RARE = 9_973
"""Of so many events one holds a word that few have."""

Ask = Callable[[Index], Awaitable[Findings]]


async def fill(store: SqliteStore, events: int) -> tuple[str, str]:
    """Append orders with ids of their own and a note of a few words; return an early id of an event, and its story."""
    feed, found = Feed(), ("", "")
    encode = msgspec.json.Encoder().encode
    stories: dict[tuple[str, ...], str] = {}
    number = 0
    for _ in range(events // BATCH):
        batch = []
        for event in feed.take(BATCH):
            number += 1
            story = stories.setdefault(event.tags[:1], new_id())
            metadata = Metadata(event_id=new_id(), correlation_id=story, causation_id=new_id(), actor="till-7")
            words = [WORDS[number % 10], WORDS[number // 10 % 10], *(["quetzal"] if number % RARE == 5 else [])]
            data = {**msgspec.json.decode(event.data), "note": f"{' '.join(words)} tea"}
            batch.append(replace(event, data=encode(data), metadata=encode(metadata)))
            if number == events // 3:
                found = metadata.event_id, story
        await store.append(batch)
    return found


async def search(options: Options) -> None:
    """Search a million events by words, tags, types and ids, and read the newest."""
    count = options.size(1_000_000, of=BATCH)
    path = options.folder / "search.db"
    store = await SqliteStore.open(path)
    event_id, story = await fill(store, count)
    await store.close()
    async with open_app(path, index=True) as app:
        start = time.perf_counter()
        await _indexed(app, count)
        console.print(f"Indexed {count / (time.perf_counter() - start):,.0f} events/s ({count:,} events)")
        one, many = Query.of(tags=[f"customer:{customer_of(7)}"]), Query.of(types=["Placed"])
        asked: dict[str, Ask] = {
            "the newest of all": lambda find: find.search(),
            "a word that a tenth has": lambda find: find.search("green"),
            "a word that one in 10,000 has": lambda find: find.search("quetzal"),
            "that, and a common one": lambda find: find.search("quetzal tea"),
            "two words in a row, a type": lambda find: find.search('"smoked smoked"', query=many),
            "a word that none has": lambda find: find.search("nowhere"),
            "the beginning of words": lambda find: find.search("quet* gre*"),
            "a rare word of a customer": lambda find: find.search("quetzal", query=one),
            "an order, by its id": lambda find: find.search(order_id(7)),
            "an event, by its id": lambda find: find.search(event_id),
            "a story": lambda find: find.correlated(story),
            "what nothing was caused by": lambda find: find.caused_by(new_id()),
            "the middle, by position": lambda find: find.search("quetzal", upto=count // 2),
        }
        with_index = await _times(app.index, asked, options.rounds)
        without = await _times(Index(app.log), asked, options.rounds)
    table = Table("sought", "with an index", "worst", "found", "without", "worst", "found", "looked at")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in asked:
        table.add_row(name, *_cells(*with_index[name])[:3], *_cells(*without[name]))
    table.title, table.title_justify = f"Searching {count:,} events, for 50; milliseconds", "left"
    console.print(table)
    for name, (seconds, findings) in with_index.items():
        if max(seconds) > TARGET:
            missed.append(f"searching for {name} took {max(seconds) * 1000:.0f} ms, to be {TARGET * 1000:.0f}")
        if not findings.complete and len(findings.events) < 50:
            missed.append(f"searching for {name} did not come to an end")


async def _indexed(app: App, count: int) -> None:
    while True:
        [standing] = [each for each in await app.operations.standing() if each.name == "LogIndex"]
        if standing.position >= count:
            return
        await app.settle()


async def _times(find: Index, asked: dict[str, Ask], rounds: int) -> dict[str, tuple[Sequence[float], Findings]]:
    found: dict[str, tuple[Sequence[float], Findings]] = {}
    for name, ask in asked.items():
        seconds: list[float] = []
        for _ in range(rounds):
            start = time.perf_counter()
            findings = await ask(find)
            seconds.append(time.perf_counter() - start)
        found[name] = seconds, findings
    return found


def _cells(seconds: Sequence[float], findings: Findings) -> tuple[str, ...]:
    figures = [f"{each * 1000:,.1f}" for each in (statistics.median(seconds), max(seconds))]
    return (*figures, f"{len(findings.events)}", f"{findings.upto - findings.after:,}")


CASES: list[Callable[[Options], object]] = [search]
