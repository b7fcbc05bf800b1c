"""The outbox: chosen events leave the log for a broker, each at least once and in the order of its key.

It is a subscription, not a second write: what is in the log is published, and what is not there is not. While the
broker is away it waits, and the log grows; nothing else does.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from refold.bus.api import Bus, Message
from refold.errors import InvalidEvent, NotPublished, WiringError
from refold.model.handler import Handler, read_translation
from refold.model.hints import described
from refold.model.message import Event, stored_name
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.runtime.books import Parked
from refold.runtime.envelope import packed
from refold.runtime.instruments import PUBLISHED
from refold.runtime.parking import Parking
from refold.runtime.telemetry import Telemetry, exchanging
from refold.store.api import Page
from refold.view.api import Write

NAME = "outbox"


class Outbox:
    """Publishes events: those of a class as they are, and what a function makes of those that it takes."""

    def __init__(self, context: str, given: Sequence[type[Event] | Callable[..., Any]], schema: Schema) -> None:
        self.context = context
        self._schema = schema
        self._as_they_are: set[type[Event]] = set()
        self._translations: dict[type[Event], Handler] = {}
        handlers: list[Handler] = []
        for each in given:
            if isinstance(each, type):
                schema.names([each])
                taken: Iterable[type] = [each]
                self._as_they_are.add(each)
            else:
                handler = read_translation(each)
                if not handler.emits or not all(issubclass(kind, Event) for kind in handler.emits):
                    raise WiringError(
                        f"{described(each)} says not which events it publishes: annotate what it returns, "
                        f"`def {handler.name}(event: OrderPlaced) -> PublicOrder`"
                    )
                taken = handler.messages
                handlers.append(handler)
                self._translations |= dict.fromkeys(cast(Sequence[type[Event]], taken), handler)
            for kind in taken:
                if kind in self._as_they_are and kind in self._translations:
                    raise WiringError(f"{described(kind)} is published as it is and translated: choose one")
        kinds = [kind for handler in self._translations.values() for kind in handler.emits or ()]
        self.published = tuple(dict.fromkeys([*self._as_they_are, *cast(list[type[Event]], kinds)]))
        """The classes of what is published: with their names and versions, the contract."""
        self.public = Schema(list(self.published), own=False)
        self.as_they_are = tuple(self._as_they_are)
        """The classes of what is published without being translated."""
        self.translations = tuple(handlers)
        sources = [*self._as_they_are, *self._translations]
        self.query = Query((QueryItem(schema.names(sources)),))
        self._plain = {stored_name(kind) for kind in self._as_they_are}
        """Names and versions of what can be published without being decoded."""
        self._bus: Bus | None = None
        self._telemetry = Telemetry(context)

    def act_through(self, bus: Bus, telemetry: Telemetry) -> None:
        """Say where to, and to whom it is told."""
        self._bus, self._telemetry = bus, telemetry

    async def handle(self, page: Page, parking: Parking) -> int:
        """Publish the events of a page."""
        messages: list[tuple[StoredEvent, Message]] = []
        for stored in page:
            key = stored.tags[:1]
            if parking.holds(key):
                parking.wait(stored, key)
                continue
            try:
                messages += [(stored, message) for message in await self._messages(stored)]
            except Exception as error:
                parking.fail(stored, key, error)
        try:
            await self._publish([message for _, message in messages], page)
        except NotPublished:
            await self._one_by_one(messages, parking)
        return len(page)

    def take(self) -> Sequence[Write]:
        """Keep nothing."""
        return ()

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Publish an event that was parked."""
        await self._publish(await self._messages(stored), [stored])
        return ()

    async def repeat(self, page: Page) -> None:
        """Publish events that were published before."""
        await self._publish([message for stored in page for message in await self._messages(stored)], page)

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event."""
        parking.fail(stored, stored.tags[:1], error)

    def forget(self) -> None:
        """Remember nothing."""

    async def _one_by_one(self, messages: Sequence[tuple[StoredEvent, Message]], parking: Parking) -> None:
        """Find the message that the broker refuses; some may be published twice."""
        for stored, message in messages:
            key = stored.tags[:1]
            if parking.holds(key):
                parking.wait(stored, key)
                continue
            try:
                await self._publish([message], [stored])
            except NotPublished as error:
                parking.fail(stored, key, error)

    async def _publish(self, messages: Sequence[Message], of: Sequence[StoredEvent]) -> None:
        if messages:
            said = exchanging(self._bus, self.context, "send")
            with self._telemetry.span_of(of, f"send {self.context}", "producer", said):
                await cast(Bus, self._bus).publish(self.context, messages)
            self._telemetry.figures.count(PUBLISHED, by=len(messages))

    async def _messages(self, stored: StoredEvent) -> list[Message]:
        metadata = decode_metadata(stored)
        event_id = metadata.event_id or f"{self.context}@{stored.position}"
        if (stored.type, stored.version) in self._plain:
            return [self._packed(event_id, stored.type, stored.version, stored.data, stored.tags, stored, metadata)]
        found: list[Event] = []
        for recorded in self._schema.recorded(stored):
            kind = type(recorded.event)
            if kind in self._as_they_are:
                found.append(recorded.event)
            elif kind in self._translations:
                found += await self._translated(self._translations[kind], recorded.event, metadata)
        messages: list[Message] = []
        for number, event in enumerate(found):
            new = self.public.encode(event)
            own_id = f"{event_id}.{number}" if number else event_id
            messages.append(self._packed(own_id, new.type, new.version, new.data, new.tags, stored, metadata))
        return messages

    async def _translated(self, handler: Handler, event: Event, metadata: Metadata) -> list[Event]:
        given = await handler.call(event, {}, metadata, None)
        for each in given:
            if type(each) not in self.published:
                raise InvalidEvent(f"{described(handler.function)} gave {each!r}, which its annotation does not say")
        return given

    def _packed(
        self,
        event_id: str,
        name: str,
        version: int,
        data: bytes,
        tags: tuple[str, ...],
        stored: StoredEvent,
        metadata: Metadata,
    ) -> Message:
        return packed(self.context, event_id, name, version, data, tags, stored, metadata)
