"""The inbox: events of another context come in, once in effect, and become commands or events of this one.

A broker may give a message twice. So the id of each that came in is kept, in one step with how far the inbox has come;
and what comes of it is recorded under an id of its own, so that a crash in between changes nothing. What cannot be
understood is parked by its key, with its bytes.

Ids are not kept for ever. A broker repeats what was not acknowledged, and an outbox what it has not noted: the last
messages of their source, however much later. An id is forgotten when it is old in both ways, by time and by how many
came after it. What is older than that comes again only where something was lost or reset: a group's place at the
broker, a checkpoint, a restored database. Nobody can tell it from what was held up for so long. So it is neither
done twice nor left out: it is parked until somebody says which it is.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.bus.api import Bus, Message, Receiver, checked
from refold.errors import Conflict, RefoldError, StoreError, WiringError
from refold.model.handler import Handler, read_translation
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.query import Query
from refold.model.record import UNSAID, Metadata, StoredEvent
from refold.model.schema import Schema, encode_metadata
from refold.model.upcast import Upcasting
from refold.runtime.books import FORGOTTEN, MESSAGES, RECEIVED, Books, Forgotten, Kept, Parked, Received
from refold.runtime.envelope import CloudEvent, unpacked
from refold.runtime.execute import Context, Executor
from refold.runtime.instruments import RECEIVED as RECEIVED_MESSAGES
from refold.runtime.parking import Parking
from refold.runtime.subscription import Subscription
from refold.runtime.telemetry import exchanging
from refold.runtime.turns import in_turn
from refold.store.api import Page
from refold.view.api import Delete, Put, Write

MOST = 500
"""How many messages are taken at once."""
WAIT_SECONDS = 5.0
REMEMBERED, REMEMBERED_DAYS = 100_000, 7
"""An id is kept until so many messages came after it, and for so many days."""
FORGET_EACH = 1000
"""After so many messages up to twice as many ids are forgotten."""


class Inbox(Struct, frozen=True):
    """Says what is done with the events of another context: `inbox=[Inbox("shop", [issue_invoice])]`.

    Each function takes one or several classes of that context's events, as this one understands them, and gives
    commands or events of its own. Events that no function takes are passed over. `upcasters` lead older versions of
    the other's events to those classes.
    """

    context: str
    functions: Sequence[Callable[..., Any]]
    upcasters: Sequence[Upcasting] = ()


class Entrance:
    """Lets in the events of one context."""

    def __init__(self, inbox: Inbox, schema: Schema) -> None:
        self.topic = checked(inbox.context, "context")
        self.name = f"inbox.{self.topic}"
        self.query = Query()
        self._own = schema
        self.handlers = [read_translation(function) for function in inbox.functions]
        kinds = [cast(type[Event], kind) for handler in self.handlers for kind in handler.messages]
        if not kinds:
            raise WiringError(f"Inbox({self.topic!r}) has no functions: say what is done with the events that come in")
        self.foreign = Schema(list(dict.fromkeys(kinds)), inbox.upcasters, own=False)
        self._names = set(self.foreign.names(dict.fromkeys(kinds)))
        for handler in self.handlers:
            for kind in handler.emits or ():
                if issubclass(kind, Event):
                    schema.names([kind])
        self._executor: Executor | None = None
        self._books: Books | None = None
        self._bus: Bus | None = None
        self._seen: dict[str, Received] = {}
        """Those received, but not written."""
        self._kept: dict[int, Kept] = {}
        self._old: list[Received] = []
        """Those that are to be forgotten with the next write."""
        self._forgotten: dict[str, int] | None = None
        """Up to when each source was forgotten; None if that is to be looked up."""

    def commands(self) -> Iterable[tuple[Callable[..., Any], type]]:
        """Return the commands that its functions are annotated to give."""
        for handler in self.handlers:
            for kind in handler.emits or ():
                if issubclass(kind, Command):
                    yield handler.function, kind

    def act_through(self, executor: Executor, books: Books, bus: Bus) -> None:
        """Say what executes commands and records events, where is kept what came in, and from where it comes."""
        self._executor, self._books, self._bus = executor, books, bus

    async def handle(self, page: Page, parking: Parking) -> int:
        """Let in the messages of a page, those of a key one after the other."""
        books = cast(Books, self._books)
        named = {stored.position: _named_of(_message(stored)) for stored in page}
        keys = [(self.topic, each) for each in dict.fromkeys(each.own_id for each in named.values())]
        known = {each for _, each in await books.views.get(RECEIVED, keys)} | self._seen.keys()
        forgotten = await self._what_is_forgotten(books)
        jobs: list[tuple[tuple[str, ...], partial[Any]]] = []
        for stored in page:
            each = named[stored.position]
            if each.own_id not in known:
                known.add(each.own_id)
                is_old = 0 < each.made <= forgotten.get(each.source, 0)
                jobs.append((stored.tags, partial(self._let_in, stored, each, parking, is_old=is_old)))
        cast(Executor, self._executor).telemetry.figures.count(RECEIVED_MESSAGES, self.topic, by=len(jobs))
        await in_turn(jobs)
        if page and page.upto // FORGET_EACH > (page[0].position - 1) // FORGET_EACH:
            await self._forget_some(books, page)
        return len(jobs)

    def take(self) -> Sequence[Write]:
        """Return what came in, and the bytes of what is parked."""
        seen, self._seen = self._seen, {}
        kept, self._kept = self._kept, {}
        writes: list[Write] = [Put(RECEIVED, list(seen.values()))] if seen else []
        if kept:
            writes.append(Put(MESSAGES, list(kept.values())))
        old, self._old = self._old, []
        if old:
            forgotten = [Forgotten(self.topic, *each) for each in (self._forgotten or {}).items()]
            writes += [Delete(RECEIVED, [(self.topic, each.id) for each in old]), Put(FORGOTTEN, forgotten)]
        return writes

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Let in a message that was parked."""
        await self._act_on(stored)
        return [Delete(MESSAGES, [(self.topic, stored.position)])]

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park a message."""
        message = _message(stored)
        self._note(stored, _named_of(message), message)
        parking.fail(stored, stored.tags, error)

    def forget(self) -> None:
        """Forget what is not written."""
        self._seen, self._kept, self._old, self._forgotten = {}, {}, [], None

    async def _what_is_forgotten(self, books: Books) -> dict[str, int]:
        if self._forgotten is None:
            rows: list[Forgotten] = await books.find(FORGOTTEN, {"context": self.topic})
            self._forgotten = {row.source: row.made for row in rows}
        return self._forgotten

    async def _forget_some(self, books: Books, page: Page) -> None:
        """Choose the ids that are too old to be needed; they go with the next write."""
        number, moment = page.upto - REMEMBERED, datetime.now(UTC) - timedelta(days=REMEMBERED_DAYS)
        # By its own time, too: what a clock that was ahead has made would make all that came since too old.
        own = {"made__lt": int(moment.timestamp() * 1000)}
        where = {"context": self.topic, "number__le": number, "received_at__lt": moment, **own}
        self._old = await books.find(RECEIVED, where, 2 * FORGET_EACH, order="number")
        forgotten = await self._what_is_forgotten(books)
        for each in self._old:
            if each.made:
                forgotten[each.source] = max(forgotten.get(each.source, 0), each.made)

    async def _let_in(self, stored: StoredEvent, named: "_Named", parking: Parking, *, is_old: bool) -> None:
        if is_old:  # also behind others of its key: somebody is to say of each which it is
            parking.fail(stored, stored.tags, _too_old(named), by_itself=False)
            self._note(stored, named, _message(stored))
            return
        if parking.holds(stored.tags):
            parking.wait(stored, stored.tags)
            self._note(stored, named, _message(stored))
            return
        try:
            await self._act_on(stored)
        except (StoreError, Conflict):
            raise
        except Exception as error:
            parking.fail(stored, stored.tags, error)
            self._note(stored, named, _message(stored))
        else:
            self._note(stored, named, None)

    def _note(self, stored: StoredEvent, named: "_Named", message: Message | None) -> None:
        self._seen[named.own_id] = Received(
            self.topic, named.own_id, stored.position, stored.recorded_at, named.source, named.made
        )
        if message is not None:
            headers = dict(message.headers)
            self._kept[stored.position] = Kept(
                self.topic, stored.position, message.id, message.key, message.body, headers, stored.recorded_at
            )

    async def _act_on(self, stored: StoredEvent) -> None:
        event = unpacked(_message(stored).body)
        if event.name not in self._names:
            return
        executor = cast(Executor, self._executor)
        said = {**exchanging(self._bus, self.topic, "process"), "messaging.message.id": event.id}
        with executor.telemetry.span(f"process {self.topic}", "consumer", parent=event.traceparent, said=said):
            await self._act_on_event(stored, event)

    async def _act_on_event(self, stored: StoredEvent, event: CloudEvent) -> None:
        metadata = Metadata(
            event_id=event.id,
            correlation_id=event.correlationid,
            causation_id=event.causationid,
            actor=event.actor,
            occurred_at=event.time or stored.recorded_at,
            traceparent=event.traceparent,
        )
        as_stored = StoredEvent(
            stored.position,
            stored.recorded_at,
            event.name,
            event.version,
            stored.tags,
            bytes(event.data),
            encode_metadata(metadata),
        )
        for part, each in enumerate(self.foreign.decode(as_stored)):
            for handler in self.handlers:
                if type(each) in handler.messages:
                    await self._act(handler, each, event, metadata, f".{part}" if part else "")

    async def _act(self, handler: Handler, each: Event, event: CloudEvent, metadata: Metadata, part: str) -> None:
        executor = cast(Executor, self._executor)
        events: list[Event] = []
        base = f"{event.source}/{event.id}{part}/{handler.name}"
        context = Context(
            id=base,
            actor=event.actor,
            occurred_at=None if metadata.occurred_at is UNSAID else metadata.occurred_at,
            correlation_id=event.correlationid or event.id,
            causation_id=event.id,
            giver="inbox",
        )
        for number, given in enumerate(await handler.call(each, {}, metadata, None), 1):
            if isinstance(given, Command):
                await executor.execute(given, msgspec.structs.replace(context, id=f"{base}/{number}"))
            elif isinstance(given, Event):
                events.append(given)
            else:
                raise WiringError(f"{described(handler.function)} gave {given!r}, which is no command or event")
        if events:
            await executor.record(events, context)


class Arrivals:
    """What comes in, as a log that can be read once: messages numbered as they come, each in place of an event."""

    def __init__(self, bus: Bus, topic: str, group: str, books: Books) -> None:
        self.subscription: Subscription | None = None
        """Who reads: what it has written it is not given again."""
        self._bus = bus
        self._topic = topic
        self._group = group
        self._books = books
        self._taken = 0

    async def follow(self, query: Query, *, after: int = 0) -> AsyncIterator[Page]:
        """Receive, for ever. The next messages are taken when those before are written and done."""
        receiver: Receiver = await self._bus.receive(self._topic, self._group)
        self._taken = after
        try:
            while True:
                messages = await receiver.take(MOST, WAIT_SECONDS)
                if not messages:
                    continue
                now = datetime.now(UTC)
                page = [_stored(each, number, now) for number, each in enumerate(messages, self._taken + 1)]
                self._taken += len(page)
                yield Page(page, self._taken)
                await cast(Subscription, self.subscription).reached(self._taken, None)
                await receiver.done()
        finally:
            with suppress(RefoldError):
                await receiver.close()

    async def read(self, query: Query = Query(), *, after: int = 0, upto: int | None = None) -> AsyncIterator[Page]:
        """Return a message that was parked."""
        kept: Kept | None = None
        if upto is not None:
            kept = (await self._books.views.get(MESSAGES, [(self._topic, upto)])).get((self._topic, upto))
        if kept is not None:
            message = Message(kept.id, kept.key, kept.body, kept.headers)
            yield Page([_stored(message, kept.number, kept.received_at)], kept.number)

    async def head(self) -> int:
        """Return the number of the last message taken."""
        return self._taken


def _stored(message: Message, number: int, now: datetime) -> StoredEvent:
    named = _named_of(message)
    key = message.key or named.own_id
    return StoredEvent(number, now, named.type or "?", 1, (key,), msgspec.msgpack.encode(message), b"")


def _message(stored: StoredEvent) -> Message:
    return msgspec.msgpack.decode(stored.data, type=Message)


class _Named(Struct):
    """What tells a message from others, as far as it can be read."""

    id: str = ""
    source: str = ""
    type: str = ""
    own_id: str = ""
    """Its source and id; of what has none, what its bytes are."""

    @property
    def made(self) -> int:
        """When its id was made, in milliseconds since 1970; 0 if it is no UUIDv7, which says it."""
        try:
            found = UUID(self.id.partition(".")[0])
        except ValueError:
            return 0
        return found.int >> 80 if found.version == 7 else 0


_named = msgspec.json.Decoder(_Named).decode


def _named_of(message: Message) -> _Named:
    try:
        found = _named(message.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _Named()
    if found.id and found.source:
        found.own_id = f"{found.source}/{found.id}"
    else:
        found.own_id = hashlib.sha256(message.body + message.key.encode() + message.id.encode()).hexdigest()
    return found


def _too_old(named: _Named) -> RefoldError:
    return RefoldError(
        f"{named.own_id} was made on {datetime.fromtimestamp(named.made / 1000, UTC):%Y-%m-%d}, and of what "
        f"{named.source} published then it is not known any more what came in. If it was held up until now, retry it; "
        "if it comes again, skip it"
    )
