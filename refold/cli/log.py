"""`refold log`: the events as they are stored, whatever app wrote them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import click
import msgspec

from refold.cli.moment import MOMENT
from refold.cli.operate import actor
from refold.errors import InvalidBody, InvalidQuery
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, NewEvent
from refold.model.schema import encode_metadata
from refold.runtime.ids import new_id
from refold.runtime.index import Index
from refold.runtime.load import position_at
from refold.store.api import Store
from refold.store.open import open_store

STORE = click.option(
    "--store", envvar="REFOLD_STORE", required=True, metavar="URL", help="Address of the log. [env: REFOLD_STORE]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
TYPES = click.option(
    "--type", "-t", "types", multiple=True, metavar="NAME", help="Only events of this type; repeatable."
)
TAGS = click.option(
    "--tag", "-g", "tags", multiple=True, metavar="NAME:VALUE", help="Only events with this tag; all of several."
)


@click.group()
def log() -> None:
    """Read the events of a log, and move them."""


@log.command()
@STORE
@TYPES
@TAGS
@click.option("--lines", "-n", default=10, show_default=True, help="How many of the newest events to begin with.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@JSON
def tail(store: str, types: tuple[str, ...], tags: tuple[str, ...], lines: int, follow: bool, as_json: bool) -> None:
    r"""Show the newest events.

    \b
      refold log tail -n 20
      refold log tail --follow --type OrderPlaced
    """

    async def work(log: Store) -> None:
        from refold.cli.show import Events

        query = query_of(types, tags)
        newest = [event async for page in log.read(query, backwards=True, limit=lines) for event in page]
        with Events(as_json=as_json) as shown:
            shown.show(reversed(newest))
            if follow:
                after = newest[0].position if newest else await log.head()
                async for page in log.follow(query, after=after):
                    shown.show(page)

    _run(store, work)


@log.command()
@STORE
@TYPES
@TAGS
@click.option("--after", default=0, show_default=True, metavar="POSITION", help="Begin behind this position.")
@click.option("--upto", type=int, metavar="POSITION", help="End with this position.")
@click.option("--since", type=MOMENT, metavar="TIME", help="Begin behind what was recorded by then.")
@click.option("--until", type=MOMENT, metavar="TIME", help="End with what was recorded by then.")
@click.option("--limit", "-n", type=click.IntRange(0), help="At most so many events.")
@click.option("--backwards", "-r", is_flag=True, help="Newest first.")
@JSON
def read(
    store: str,
    types: tuple[str, ...],
    tags: tuple[str, ...],
    after: int,
    upto: int | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    backwards: bool,
    as_json: bool,
) -> None:
    r"""Show events by type, tag, position and time.

    TIME is 2026-03-01T12:00:00+01:00; without a zone it is UTC, and a day alone means its end.

    \b
      refold log read --tag order:o-1
      refold log read --type OrderPlaced --since 2026-03-01 --limit 100
      refold log read --json | jq -r .type | sort | uniq -c
    """

    async def work(log: Store) -> None:
        from refold.cli.show import Events

        begin = max(after, await position_at(log, since)) if since else after
        end = await position_at(log, until) if until else upto
        if until and upto is not None:
            end = min(upto, await position_at(log, until))
        with Events(as_json=as_json) as shown:
            async for page in log.read(query_of(types, tags), after=begin, upto=end, backwards=backwards, limit=limit):
                shown.show(page)

    _run(store, work)


@log.command()
@click.argument("text", nargs=-1, required=True)
@STORE
@TYPES
@TAGS
@click.option("--since", type=MOMENT, metavar="TIME", help="Only what was recorded after it.")
@click.option("--until", type=MOMENT, metavar="TIME", help="Only what was recorded by then.")
@click.option("--before", type=click.IntRange(1), metavar="POSITION", help="Only what is older than this position.")
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1), help="At most so many events.")
@JSON
def search(
    text: tuple[str, ...],
    store: str,
    types: tuple[str, ...],
    tags: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    r"""Find the newest events that hold all the words of TEXT, or have it as an id.

    Case and accents count for nothing; tea* is the beginning of a word, and words in double quotes follow one another.
    If an app keeps an index of the log, `App(..., index=True)`, it is used; otherwise the log is looked through from
    its end, however long that takes.

    \b
      refold log search green tea
      refold log search '"green tea"' --type OrderPlaced --since 2026-03-01
      refold log search 0199c1f2-6f0e-7a31-9d5e-3f1b2c4d5e6f --json
    """

    async def work(log: Store) -> None:
        from refold.cli.show import Events, progress

        index, query, left = Index.beside(log), query_of(types, tags), limit
        upto = begun = await log.head() if before is None else before - 1
        with Events(as_json=as_json) as shown, progress("looking through the log", upto) as move:
            while True:
                found = await index.search(" ".join(text), query=query, since=since, until=until, upto=upto, limit=left)
                shown.show(found.events)
                left -= len(found.events)
                if found.complete or not left:
                    break
                move(begun - found.after)
                upto = found.after

    _run(store, work)


@log.command()
@STORE
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def stats(store: str, as_json: bool) -> None:
    r"""Count the events of each type and version, with their bytes and times.

    \b
      refold log stats --store sqlite:///shop.db
    """

    async def work(log: Store) -> None:
        from refold.cli.show import Statistics, progress

        head = await log.head()
        found = Statistics(head=head)
        counts: Counter[tuple[str, int]] = Counter()
        with progress("reading the log", head) as advance:
            async for page in log.read(upto=head):
                for event in page:
                    counts[event.type, event.version] += 1
                    found.add(event)
                advance(page.upto)
        found.show(as_json=as_json)

    _run(store, work)


@log.command()
@click.argument("type", metavar="TYPE")
@click.argument("data", default="{}", metavar="JSON")
@click.option("--version", default=1, show_default=True, type=click.IntRange(1), help="Of the type.")
@click.option("--tag", "-g", "tags", multiple=True, metavar="NAME:VALUE", help="What it is about; repeatable.")
@click.option("--id", "append_id", metavar="TEXT", help="One that comes again with the same id is not appended twice.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@STORE
def append(
    type: str, data: str, version: int, tags: tuple[str, ...], append_id: str | None, store: str, *, as_json: bool
) -> None:
    r"""Append an event as it is, past all decisions; no code of an app is needed, and none is asked.

    To have an app decide, use `refold execute`. What DATA holds is not checked against a type: an app that cannot read
    it parks it.

    \b
      refold log append OrderPlaced '{"order_id": "o-1", "total": 5}' --tag order:o-1 --id import-7
    """
    query_of((), tags)
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise InvalidBody(f"the data of an event is a JSON object: {error}") from None

    async def work(log: Store) -> None:
        metadata = Metadata(event_id=new_id(), actor=actor())
        event = NewEvent(type, data.encode(), tuple(sorted(set(tags))), version, encode_metadata(metadata))
        done = await log.append([event], append_id=append_id)
        said = msgspec.json.encode({"position": done.last}).decode() if as_json else str(done.last)
        click.echo(said)

    _run(store, work)


def query_of(types: tuple[str, ...], tags: tuple[str, ...]) -> Query:
    """Return the query for events of one of some types with all of some tags."""
    for tag in tags:
        if ":" not in tag:
            raise InvalidQuery(f"a tag is written name:value, as in order:o-1; {tag!r} has no colon")
    return Query((QueryItem(types, tags),)) if types or tags else Query()


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Store]:
    """Open a log that is there, and close it."""
    store = await open_store(url, create=False)
    try:
        yield store
    finally:
        await store.close()


def _run(url: str, work: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(url) as store:
            await work(store)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        click.echo(err=True)
