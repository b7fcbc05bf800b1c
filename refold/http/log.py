"""`/log`: the port of stores over HTTP, for programs in other languages; `docs/http.md` says exactly how.

The data and metadata of an event are its own bytes. If they are JSON they stand in a message as they are, byte for
byte; otherwise in `data_base64` and `metadata_base64`.
"""

from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from itertools import accumulate, takewhile
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from refold.errors import InvalidEvent, InvalidQuery
from refold.http.call import MOST, Call, answer
from refold.http.problem import Refusal
from refold.http.stream import EventStream, Sent
from refold.model.body import invalid, misfit
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent

PAGE = 500
BYTES = 8 << 20
"""How many of events one page has, or one event more."""
FOUND = 50
Counted: TypeAlias = Annotated[int, Meta(le=MOST)]
OWN = "refold."
"""Begins the types of what is recorded by Refold itself, such as what operators do."""


class Wired(Struct, omit_defaults=True):
    """A stored event in a message."""

    position: int
    recorded_at: datetime
    type: str
    version: int
    tags: Sequence[str]
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    metadata_base64: str | None = None


class Given(Struct, forbid_unknown_fields=True):
    """An event to append."""

    type: str
    version: int = 1
    tags: tuple[str, ...] = ()
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    metadata_base64: str | None = None


class Batch(Struct, forbid_unknown_fields=True):
    """The body of an append."""

    events: list[Given]
    condition: AppendCondition | list[AppendCondition] | None = None
    append_id: str | None = None


class Asked(Struct, forbid_unknown_fields=True):
    """The body of a read."""

    query: Query = Query()
    after: Counted = 0
    upto: Counted | None = None
    backwards: bool = False
    limit: Counted = PAGE


async def read(call: Call) -> Response:
    """Read a page of events; `next` says how the next one is asked for, so that all are of one view of the log."""
    if call.request.method == "POST":
        asked = await call.json(msgspec.json.Decoder(Asked).decode, "read")
    else:
        asked = Asked(
            _query(call),
            call.number("after", 0) or 0,
            call.number("upto"),
            call.flag("backwards"),
            call.limit(PAGE),
        )
    limit = min(asked.limit, call.limits.rows)
    query, events = call.principal.seen(asked.query), list[StoredEvent]()
    pinned = end = await call.app.log.head() if asked.upto is None else asked.upto
    # One more is read, to see whether there is more.
    pages = call.app.log.read(
        query, after=asked.after, upto=pinned, backwards=asked.backwards, limit=limit + 1 if limit > 0 else limit
    )
    size = 0
    async for page in pages:
        events += page
        end = page.upto
        size += sum(map(_size, page))
        if size > BYTES and len(events) > 1:
            break
    if isinstance(pages, AsyncGenerator):
        await pages.aclose()
    more = None
    fit = _fit(events)
    if 0 < limit < len(events) or fit < len(events):
        del events[min(limit or fit, fit) :]
        last = events[-1].position
        more = {"after": asked.after, "upto": last - 1} if asked.backwards else {"after": last, "upto": pinned}
        end = end if asked.backwards else last
    return answer({"events": [wired(event) for event in events], "upto": end, "next": more})


async def search(call: Call) -> Response:
    """Find the newest events by words or an id; `next` says how older ones are asked for, and is null at the end.

    Where there is no index the log itself is looked through, for a moment: then there may be few events, or none, and
    more to come. Everything above `after` and up to `upto` has been looked at.
    """
    before = call.number("before")
    findings = await call.app.index.search(
        call.text("text") or "",
        query=call.principal.seen(_query(call)),
        upto=None if before is None else max(before - 1, 0),
        since=call.moment("since"),
        until=call.moment("until"),
        limit=max(call.limit(FOUND), 1),
    )
    events = findings.events[: _fit(findings.events)]
    cut = len(events) < len(findings.events)
    after = events[-1].position - 1 if cut else findings.after
    return answer(
        {
            "events": [wired(event) for event in events],
            "after": after,
            "upto": findings.upto,
            "next": {"before": after + 1} if cut or not findings.complete else None,
        }
    )


async def append(call: Call) -> Response:
    """Append a batch, whole or not at all.

    It takes who sees all: what is appended past all decisions, and its conditions, would reach beyond some tags.
    """
    call.principal.must_see_all("appends")
    batch = await call.json(msgspec.json.Decoder(Batch).decode, "batch")
    events = [_new(event) for event in batch.events]
    for event in events:
        if event.type.startswith(OWN):
            raise Refusal(403, "FORBIDDEN", f"{event.type} is what Refold itself records; nobody else writes it")
    result = await call.app.log.append(events, batch.condition, append_id=batch.append_id)
    return answer(result, position=result.last)


async def appended(call: Call) -> Response:
    """Return the result of the append that had an id, if it is remembered."""
    call.principal.must_see_all("appends")
    append_id = call.path("id")
    result = await call.app.log.appended(append_id)
    if result is None:
        raise Refusal(404, "NOT_FOUND", f"no append with the id {append_id!r} is remembered")
    return answer(result, position=result.last)


async def head(call: Call) -> Response:
    """Return the position up to which everything is visible."""
    position = await call.app.head()
    return answer({"position": position}, position=position)


async def follow(call: Call) -> Response:
    """Send the events there are, then those that come, for ever; `Last-Event-ID` is where one goes on."""
    query = call.principal.seen(_query(call))
    after = await call.resumed() or 0

    async def events() -> AsyncIterator[Sent]:
        async for page in call.app.log.follow(query, after=after):
            for event in page:
                yield Sent("event", str(event.position), wired(event))
            if not page or page[-1].position < page.upto:
                yield Sent("upto", str(page.upto), {"position": page.upto})

    return EventStream(events())


def wired(event: StoredEvent) -> Wired:
    """Return an event as it stands in a message."""
    found = Wired(event.position, event.recorded_at, event.type, event.version, event.tags)
    if (data := _shown(event.data)) is not None:
        found.data = data
    else:
        found.data_base64 = b64encode(event.data).decode()
    if (metadata := _shown(event.metadata)) is not None:
        found.metadata = metadata
    elif event.metadata:
        found.metadata_base64 = b64encode(event.metadata).decode()
    return found


def _fit(events: Sequence[StoredEvent]) -> int:
    """Return how many of some events one answer has: the first, and what fits beside it."""
    sizes = accumulate(map(_size, events))
    return max(sum(1 for _ in takewhile(lambda size: size <= BYTES, sizes)), 1)


def _size(event: StoredEvent) -> int:
    return len(event.data) + len(event.metadata)


def _shown(data: bytes) -> msgspec.Raw | None:
    """Return bytes that can stand in JSON as they are; None for others."""
    try:
        data.decode()
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.Raw(data) if data.strip() == data else None


def _new(event: Given) -> NewEvent:
    return NewEvent(
        event.type,
        _bytes(event.data, event.data_base64, b"{}"),
        event.tags,
        event.version,
        _bytes(event.metadata, event.metadata_base64, b""),
    )


def _bytes(raw: msgspec.Raw | msgspec.UnsetType, base64: str | None, otherwise: bytes) -> bytes:
    if base64 is None:
        return otherwise if isinstance(raw, msgspec.UnsetType) else bytes(raw)
    if not isinstance(raw, msgspec.UnsetType):
        raise InvalidEvent("an event has its data, and its metadata, as JSON or as base64, not both")
    try:
        return b64decode(base64, validate=True)
    except ValueError as error:  # binascii's own, or of what is no ASCII
        raise InvalidEvent(f"{base64[:40]!r} is not base64: {error}") from None


def _query(call: Call) -> Query:
    """Read a query: `types=OrderPlaced&tags=order:o-1`, each as often as need be, or a whole one as JSON."""
    types, tags = call.texts("types"), call.texts("tags")
    if (text := call.text("query")) is not None:
        if types or tags:
            raise InvalidQuery("a whole query says types and tags itself: give it, or those")
        try:
            return msgspec.json.decode(text, type=Query)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise invalid("query", misfit(error)) from None
    return Query.of(types=types, tags=tags) if types or tags else Query()
