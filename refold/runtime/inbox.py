"""The inbox: events of another context come in, once in effect, and become commands or events of this one.

A broker may give a message twice, even long afterwards. So the id of each that came in is kept, in one step with how
far the inbox has come; and what comes of it is recorded under an id of its own, so that a crash in between changes
nothing. What cannot be understood is parked by its key, with its bytes.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

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
from refold.runtime.books import MESSAGES, RECEIVED, Books, Kept, Parked, Received
from refold.runtime.envelope import CloudEvent, unpacked
from refold.runtime.execute import Context, Executor
from refold.runtime.parking import Parking
from refold.runtime.subscription import Subscription
from refold.runtime.turns import in_turn
from refold.store.api import Page
from refold.view.api import Delete, Put, Write

MOST = 500
"""How many messages are taken at once."""
WAIT_SECONDS = 5.0


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
        self._seen: dict[str, Received] = {}
        """Those received, but not written."""
        self._kept: dict[int, Kept] = {}

    def commands(self) -> Iterable[tuple[Callable[..., Any], type]]:
        """Return the commands that its functions are annotated to give."""
        for handler in self.handlers:
            for kind in handler.emits or ():
                if issubclass(kind, Command):
                    yield handler.function, kind

    def act_through(self, executor: Executor, books: Books) -> None:
        """Say what executes commands and records events, and where is kept what came in."""
        self._executor, self._books = executor, books

    async def handle(self, page: Page, parking: Parking) -> int:
        """Let in the messages of a page, those of a key one after the other."""
        books = cast(Books, self._books)
        ids = {stored.position: _id_of(_message(stored)) for stored in page}
        keys = [(self.topic, each) for each in dict.fromkeys(ids.values())]
        known = {each for _, each in await books.views.get(RECEIVED, keys)} | self._seen.keys()
        jobs: list[tuple[tuple[str, ...], partial[Any]]] = []
        for stored in page:
            own_id = ids[stored.position]
            if own_id not in known:
                known.add(own_id)
                jobs.append((stored.tags, partial(self._let_in, stored, own_id, parking)))
        await in_turn(jobs)
        return len(jobs)

    def take(self) -> Sequence[Write]:
        """Return what came in, and the bytes of what is parked."""
        seen, self._seen = self._seen, {}
        kept, self._kept = self._kept, {}
        writes: list[Write] = [Put(RECEIVED, list(seen.values()))] if seen else []
        return [*writes, *([Put(MESSAGES, list(kept.values()))] if kept else ())]

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Let in a message that was parked."""
        await self._act_on(stored)
        return [Delete(MESSAGES, [(self.topic, stored.position)])]

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park a message."""
        message = _message(stored)
        self._note(stored, _id_of(message), message)
        parking.fail(stored, stored.tags, error)

    def forget(self) -> None:
        """Forget what is not written."""
        self._seen, self._kept = {}, {}

    async def _let_in(self, stored: StoredEvent, own_id: str, parking: Parking) -> None:
        if parking.holds(stored.tags):
            parking.wait(stored, stored.tags)
            self._note(stored, own_id, _message(stored))
            return
        try:
            await self._act_on(stored)
        except (StoreError, Conflict):
            raise
        except Exception as error:
            parking.fail(stored, stored.tags, error)
            self._note(stored, own_id, _message(stored))
        else:
            self._note(stored, own_id, None)

    def _note(self, stored: StoredEvent, own_id: str, message: Message | None) -> None:
        self._seen[own_id] = Received(self.topic, own_id, stored.position, stored.recorded_at)
        if message is not None:
            headers = dict(message.headers)
            self._kept[stored.position] = Kept(
                self.topic, stored.position, message.id, message.key, message.body, headers, stored.recorded_at
            )

    async def _act_on(self, stored: StoredEvent) -> None:
        event = unpacked(_message(stored).body)
        if event.name not in self._names:
            return
        metadata = Metadata(
            event_id=event.id,
            correlation_id=event.correlationid,
            causation_id=event.causationid,
            actor=event.actor,
            occurred_at=event.time or stored.recorded_at,
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
    key = message.key or _id_of(message)
    return StoredEvent(number, now, _type_of(message), 1, (key,), msgspec.msgpack.encode(message), b"")


def _message(stored: StoredEvent) -> Message:
    return msgspec.msgpack.decode(stored.data, type=Message)


class _Named(Struct):
    id: str = ""
    source: str = ""
    type: str = ""


_named = msgspec.json.Decoder(_Named).decode


def _type_of(message: Message) -> str:
    try:
        return _named(message.body).type or "?"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "?"


def _id_of(message: Message) -> str:
    """Return what tells a message from others: its source and id; of what has none, what its bytes are."""
    try:
        found = _named(message.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _Named()
    if found.id and found.source:
        return f"{found.source}/{found.id}"
    return hashlib.sha256(message.body + message.key.encode() + message.id.encode()).hexdigest()
