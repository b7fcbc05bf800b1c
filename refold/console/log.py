"""The log as pages: the newest events by what they are and hold, as they come, and each one whole."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from refold.console.visit import Visit
from refold.errors import UnreadableEvent
from refold.http.call import whole
from refold.http.operations import said_to
from refold.http.problem import Refusal
from refold.http.stream import EventStream, Sent
from refold.model.message import Event, stored_name
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.state import keys_by_event, state_kind
from refold.runtime.indexing import metadata_of
from refold.runtime.scan import Sought

PAGE = 50
PREVIEW = 240
"""How many characters of an event's data stand in its row."""
MOST_BEHIND = 1_000
"""How many positions a live page is told of that it has missed; what lies before is a page for itself."""


class Line(Struct, frozen=True):
    """An event in the table."""

    stored: StoredEvent
    data: str
    actor: str


class Filter(Struct, frozen=True):
    """Which events a page shows."""

    text: str
    types: list[str]
    tags: list[str]
    since: datetime | None
    until: datetime | None

    @classmethod
    def of(cls, visit: Visit) -> "Filter":
        """Read it from the address of a page; fields of a form that were left empty say nothing."""
        return cls(
            (visit.text("text") or "").strip(),
            [each for each in visit.texts("types") if each],
            [each.strip() for each in visit.texts("tags") if each.strip()],
            visit.moment("since"),
            visit.moment("until"),
        )

    @property
    def query(self) -> Query:
        """The events that it is about, whatever is in them."""
        return Query.of(types=self.types, tags=self.tags) if self.types or self.tags else Query()

    def said(self) -> dict[str, Any]:
        """Return it as it stands in an address."""
        return {
            "text": self.text,
            "types": self.types or None,
            "tags": self.tags or None,
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
        }

    @property
    def fields(self) -> dict[str, str]:
        """Return the times as the fields of a form have them, in UTC."""
        times = {"since": self.since, "until": self.until}
        return {name: f"{each:%Y-%m-%dT%H:%M:%S}" if each else "" for name, each in times.items()}

    def shell(self, visit: Visit) -> str:
        """Return the command that finds the same."""
        times = {"since": self.since and self.since.isoformat(), "until": self.until and self.until.isoformat()}
        named = [f"--type={each}" for each in self.types] + [f"--tag={each}" for each in self.tags]
        if self.text:
            return visit.shell("log", "search", *named, "--", self.text, **times)
        return visit.shell("log", "read", "--backwards", *named, limit=PAGE, **times)


async def show(visit: Visit) -> Response:
    """Show a page of events, the newest first, never counting how many there are."""
    chosen, before, after = Filter.of(visit), visit.number("before"), visit.number("after")
    findings = await visit.app.index.search(
        chosen.text,
        query=visit.principal.seen(chosen.query),
        after=after or 0,
        upto=None if before is None else max(before - 1, 0),
        since=chosen.since,
        until=chosen.until,
        backwards=after is None,
        limit=PAGE,
    )
    events = findings.events if after is None else findings.events[::-1]
    said = chosen.said()
    more = findings.after > 0 if after is not None else not findings.complete
    is_newest = before is None and after is None
    known = {name for name, _ in _stored_names(visit)}
    return visit.page(
        "log.html",
        chosen=chosen,
        lines=lines(events),
        findings=findings,
        known=sorted({*known, *chosen.types}),
        older=visit.url("log", **said, before=findings.after + 1) if more else "",
        newer="" if is_newest else visit.url("log", **said, after=findings.upto),
        newest="" if is_newest else visit.url("log", **said),
        live=visit.url("log", "live", **said) if is_newest and chosen.until is None else "",
        shell=chosen.shell(visit),
    )


async def live(visit: Visit) -> Response:
    """Send the rows of events that come, in pieces of HTML, each with the position where to take it up again."""
    chosen, head = Filter.of(visit), await visit.app.head()
    query = visit.principal.seen(chosen.query)
    sought = Sought(chosen.text) if chosen.text else None
    last = whole(visit.header("last-event-id"))
    asked = visit.number("after") if last is None else last
    start = head if asked is None else min(asked, head)
    begin = max(start, head - MOST_BEHIND)
    template = visit.desk.templates.get_template("log_rows.html")

    async def rows() -> AsyncIterator[Sent]:
        if begin > start:
            gap = (start + 1, begin, visit.url("log", **chosen.said(), before=begin + 1))
            yield Sent("gap", str(begin), template.render(visit=visit, url=visit.url, lines=[], gap=gap))
        async for page in visit.app.log.follow(query, after=begin):
            events = [each for each in reversed(page) if sought is None or sought.meets(each)]
            html = template.render(visit=visit, url=visit.url, lines=lines(events), gap=None) if events else ""
            yield Sent("rows" if events else "upto", str(page.upto), html)

    return EventStream(rows())


async def event(visit: Visit) -> Response:
    """Show an event whole: what it is, what it holds, what it belongs to, and those beside it."""
    position = visit.path("position")
    stored = await visit.app.index.at(whole(position) or 0)
    if stored is None:
        raise Refusal(404, "NOT_FOUND", f"the log has no event at position {position[:40]}")
    visit.principal.must_see(stored.tags, "this event")
    decoded, trouble = _decoded(visit, stored)
    metadata = metadata_of(stored)
    everything = visit.principal.seen(Query())
    return visit.page(
        "event.html",
        stored=stored,
        metadata=metadata,
        has_occurred=metadata.occurred_at != stored.recorded_at,
        raw_metadata=stored.metadata or b"{}",
        decoded=[(type(each).__name__, each) for each in decoded],
        is_as_stored=[_name(type(each)) for each in decoded] == [(stored.type, stored.version)],
        trouble=said_to(visit.principal, trouble),
        stories=_stories(visit, decoded),
        before=await _beside(visit, everything, upto=stored.position - 1, backwards=True),
        behind=await _beside(visit, everything, after=stored.position),
        shell=visit.shell("log", "read", after=stored.position - 1, limit=1),
    )


def lines(events: Sequence[StoredEvent]) -> list[Line]:
    """Return events as the table has them."""
    return [Line(each, _preview(each.data), metadata_of(each).actor) for each in events]


def _preview(data: bytes) -> str:
    text = data[: 4 * PREVIEW].decode(errors="replace")
    return text if len(data) <= 4 * PREVIEW and len(text) <= PREVIEW else f"{text[:PREVIEW]}…"


def _decoded(visit: Visit, stored: StoredEvent) -> tuple[Sequence[Event], str]:
    """Return what this program reads an event as, or why it cannot."""
    try:
        return visit.app.schema.decode(stored), ""
    except UnreadableEvent as error:
        return (), str(error)


def _stories(visit: Visit, events: Sequence[Event]) -> list[tuple[str, Sequence[Any]]]:
    """Return the states that events belong to, each by its class and key."""
    found: dict[tuple[str, tuple[Any, ...]], None] = {}
    for state in visit.app.states:
        keys = keys_by_event(state_kind(state))
        for each in events:
            if type(each) in keys:
                found.update(dict.fromkeys((state.__name__, tuple(key)) for key in keys[type(each)](each)))
    return list(found)


async def _beside(visit: Visit, query: Query, **bounds: Any) -> int | None:
    """Return the position of the first event within some bounds."""
    async for page in visit.app.log.read(query, limit=1, **bounds):
        for stored in page:
            return stored.position
    return None


def _stored_names(visit: Visit) -> set[tuple[str, int]]:
    """Return the types and versions of events that this program knows."""
    schema = visit.app.schema
    return {_name(each) for each in (*schema.events, *schema.old_events)}


def _name(event: type[Event]) -> tuple[str, int]:
    found = stored_name(event)
    return found.name, found.version
