"""RabbitMQ: a stream queue for each topic, and for each group a queue of one message that says how far it has come.

A stream keeps what was consumed, so a group may begin at any time, and with the oldest. RabbitMQ does not remember
how far consumers of streams have come. So the group's message does; whoever takes it out puts another in before it is
acknowledged, so that it is never lost, and two at once can not both have it. It names the receiver that is the
group's last: another one that comes to put its own place in finds that it was replaced.

Messages are published on one channel, in order, and each is confirmed. A batch that breaks off leaves its beginning.
RabbitMQ does not wait for the disk when it confirms to a stream: what a power cut on every replica at once costs is
not promised. To set how long a topic is kept, give `refold.*` a policy. A queue that is there is used as it is: in a
cluster, declare those of the groups (`refold.TOPIC.GROUP`) as quorum queues before they are used.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import aio_pika
import msgspec
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)
from aiormq import Channel
from aiormq.abc import ArgumentsType, DeliveredMessage
from msgspec import Struct

from refold.bus.api import Message, checked
from refold.errors import NotPublished, RefoldError, Unavailable

CONNECT_SECONDS, ANSWER_SECONDS, HEARTBEAT_SECONDS = 5.0, 10.0, 10
MOST_UNCONFIRMED = 1000
MOST_AHEAD = 1000
"""How many messages are sent to a receiver before it takes them."""
SAME_SECONDS = 2.0
"""How long the last message that is done may take to come again before its stream counts as another one."""
STREAM: ArgumentsType = {"x-queue-type": "stream"}
PROGRESS: ArgumentsType = {"x-queue-type": "classic"}
"""As a quorum queue it could not be opened any more if the server was killed in the second after it was made."""
AWAY = (AMQPError, OSError, TimeoutError, RuntimeError, asyncio.CancelledError)


class Progress(Struct):
    """How far a group has come, and who its last receiver is."""

    receiver: str
    offset: int = -1
    """Of the last message that is done."""
    id: str = ""
    """Of that message: a stream that was made anew has another one there."""


class RabbitBus:
    """A RabbitMQ server, 3.10 or later."""

    def __init__(self, url: str) -> None:
        self._url = url if "heartbeat=" in url else f"{url}{'&' if '?' in url else '?'}heartbeat={HEARTBEAT_SECONDS}"
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._channel: Channel | None = None
        self._publishing = asyncio.Lock()
        self._topics: set[str] = set()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish messages, a thousand at a time under way."""
        queue = _stream(topic)
        async with self._publishing:
            for start in range(0, len(messages), MOST_UNCONFIRMED):
                await self._publish(queue, messages[start : start + MOST_UNCONFIRMED])

    async def receive(self, topic: str, group: str) -> "RabbitReceiver":
        """Become the group's last receiver, and go on where it has come to."""
        queue = _stream(topic)
        progress = f"{queue}.{checked(group, 'group')}"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._declare(queue, STREAM)
                known = await self._declare(progress, PROGRESS)
                receiver = RabbitReceiver(await self._open(), queue, progress)
                await receiver.begin(known=known)
        except AWAY as error:
            raise _told(error) from None
        return receiver

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(*AWAY):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.close()

    async def _publish(self, queue: str, messages: Sequence[Message]) -> None:
        properties = [_properties(message) for message in messages]  # all, before one of them is sent
        sending: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                channel = await self._ready(queue)
                for message, each in zip(messages, properties, strict=True):
                    sent = channel.basic_publish(
                        message.body, routing_key=queue, properties=each, mandatory=True, wait=False
                    )
                    sending.append(asyncio.ensure_future(sent))  # in this order, as they wait for one lock
                await asyncio.gather(*sending)
        except AWAY as error:
            for future in sending:
                future.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            self._topics.clear()
            if isinstance(error, TimeoutError):
                await self.close()
            elif self._channel is not None:
                with suppress(*AWAY):
                    await self._channel.close()
            self._channel = None
            raise _told(error) from None

    async def _ready(self, queue: str) -> Channel:
        """Return the channel that is published on, on a server that has the stream."""
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._open()
        if queue not in self._topics:
            await self._declare(queue, STREAM)
            self._topics.add(queue)
        return self._channel

    async def _declare(self, queue: str, arguments: ArgumentsType) -> bool:
        """Make a queue, unless there is one, however it was made; tell whether there was."""
        channel = await self._open()
        try:
            await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity:
            channel = await self._open()
            await channel.queue_declare(queue, durable=True, arguments=arguments)
            return False
        finally:
            with suppress(*AWAY):
                await channel.close()
        return True

    async def _open(self) -> Channel:
        """Open a channel, and connect before if need be."""
        async with self._connecting:
            if self._connection is None or _lost(self._connection):
                # One that connects again by itself would hide what was lost in between.
                self._connection = await aio_pika.connect(self._url, timeout=CONNECT_SECONDS)
                self._channel = None
                self._topics.clear()
            channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        return cast(Channel, await channel.get_underlay_channel())


class RabbitReceiver:
    """A consumer of a stream."""

    def __init__(self, channel: Channel, queue: str, progress: str) -> None:
        self._channel = channel
        self._queue = queue
        self._progress = progress
        self._reached = Progress(uuid.uuid4().hex)
        """How far this one has come, whether it is done or not."""
        self._done = -1
        self._ready: deque[tuple[int, int, Message]] = deque()
        """Offsets and delivery tags of what has come, and is not taken."""
        self._more = asyncio.Event()
        self._consumer = ""
        self._ended = False
        channel.closing.add_done_callback(self._end)
        channel.on_consumer_cancel_callbacks.add(self._end)

    async def begin(self, *, known: bool) -> None:
        """Become the last receiver of the group, and consume what it has not done."""
        found = await self._take_out()
        for _ in range(20 if known else 0):  # while another one has it in its hands
            if found:
                break
            await asyncio.sleep(0.05)
            found = await self._take_out()
        if found:
            furthest = max((each for _, each in found), key=lambda each: each.offset)
            self._reached = Progress(self._reached.receiver, furthest.offset, furthest.id)
        await self._put_in(self._reached, found)
        await self._channel.basic_qos(prefetch_count=MOST_AHEAD)
        if self._reached.offset < 0 or not await self._goes_on():
            self._reached = Progress(self._reached.receiver)
            await self._consume("first")
        self._done = self._reached.offset

    async def _goes_on(self) -> bool:
        """Consume from the last message that is done, and tell whether it is still that one.

        If the stream was made anew, or cut, what it now has is not done, and RabbitMQ would pass over it in silence.
        """
        await self._consume(self._reached.offset)
        with suppress(TimeoutError):
            async with asyncio.timeout(SAME_SECONDS):
                while not self._ready and not self._ended:
                    self._more.clear()
                    await self._more.wait()
        self._check()
        if self._ready:
            offset, _, first = self._ready[0]
            if offset > self._reached.offset:  # the stream is kept only so long
                return True
            if first.id == self._reached.id:
                self._ready.popleft()
                return True
        await self._channel.basic_cancel(self._consumer)
        for _, delivery, _ in self._ready:
            await self._channel.basic_ack(delivery, wait=False)
        self._ready.clear()
        return False

    async def _consume(self, start: int | str) -> None:
        self._consumer = uuid.uuid4().hex
        asked: ArgumentsType = {"x-stream-offset": start}
        await self._channel.basic_consume(self._queue, self._came, arguments=asked, consumer_tag=self._consumer)

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Return what has come."""
        self._check()
        try:
            async with asyncio.timeout(seconds):
                while not self._ready:
                    self._more.clear()
                    await self._more.wait()
                    self._check()
        except TimeoutError:
            return []
        taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
        offset, tag, last = taken[-1]
        self._reached = Progress(self._reached.receiver, offset, last.id)
        try:
            # To a stream this says only that more may be sent.
            await self._channel.basic_ack(tag, multiple=True, wait=False)
        except AWAY as error:
            raise _told(error) from None
        return [message for _, _, message in taken]

    async def done(self) -> None:
        """Put in how far this one has come, unless another one has taken over."""
        self._check()
        if self._reached.offset == self._done:
            return
        reached = self._reached
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await self._take_out()
                if all(each.receiver != reached.receiver for _, each in found):
                    for _, each in found:
                        await self._put_in(each, [])
                    raise Unavailable("RabbitMQ is not available to this receiver: another one has taken over")
                await self._put_in(reached, found)
        except AWAY as error:
            raise _told(error) from None
        self._done = reached.offset

    async def close(self) -> None:
        """Stop consuming."""
        self._ended = True
        with suppress(*AWAY):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._channel.close()

    async def _take_out(self) -> list[tuple[int, Progress]]:
        """Take the group's message, or what a crash has left of several; until they are acknowledged they are held."""
        found: list[tuple[int, Progress]] = []
        while True:
            got = await self._channel.basic_get(self._progress)
            if got.delivery_tag is None:
                return found
            found.append((got.delivery_tag, msgspec.json.decode(got.body, type=Progress)))

    async def _put_in(self, progress: Progress, instead: Sequence[tuple[int, Progress]]) -> None:
        properties = aio_pika.Message(b"", delivery_mode=aio_pika.DeliveryMode.PERSISTENT).properties
        body = msgspec.json.encode(progress)
        await self._channel.basic_publish(body, routing_key=self._progress, properties=properties, mandatory=True)
        for tag, _ in instead:
            await self._channel.basic_ack(tag)

    async def _came(self, found: DeliveredMessage) -> None:
        if found.consumer_tag != self._consumer:
            return
        given = cast(dict[str, Any], found.header.properties.headers or {})
        offset = int(given.pop("x-stream-offset"))
        headers = {name: str(value) for name, value in given.items()}  # others may have sent it, with anything in them
        message = Message(headers.pop("refold-id", ""), headers.pop("refold-key", ""), found.body, headers)
        self._ready.append((offset, found.delivery_tag or 0, message))
        self._more.set()

    def _end(self, _: object) -> None:
        self._ended = True
        self._more.set()

    def _check(self) -> None:
        if self._ended:
            raise Unavailable("RabbitMQ is not available: it has ended this receiver")


def _lost(connection: AbstractConnection) -> bool:
    """Tell whether a connection is of no use any more; what it says itself is only whether it was told to close."""
    return connection.is_closed or connection.transport is None or connection.transport.connection.is_closed


def _properties(message: Message) -> Any:
    headers: dict[str, Any] = {**message.headers, "refold-id": message.id, "refold-key": message.key}
    if any(len(name.encode()) > 255 for name in headers):
        raise NotPublished("RabbitMQ refuses names of headers that are longer than 255 bytes")
    return aio_pika.Message(b"", headers=headers, delivery_mode=aio_pika.DeliveryMode.PERSISTENT).properties


def _stream(topic: str) -> str:
    return f"refold.{checked(topic, 'topic')}"


def _told(error: BaseException) -> BaseException:
    """Turn the client's errors into ours; addresses are left out, as they may have a password in them."""
    if isinstance(error, asyncio.CancelledError | RefoldError):
        return error
    if isinstance(error, ChannelNotFoundEntity | PublishError):
        return Unavailable("RabbitMQ is not available: the queue was removed")
    if isinstance(error, DeliveryError):
        return Unavailable("RabbitMQ is not available: it could not keep a message")
    if isinstance(error, ChannelClosed):
        refused = any(part in str(error) for part in ("message size", "ACCESS_REFUSED"))
        # What else it says of a queue, it says while it starts, too.
        return NotPublished(f"RabbitMQ refuses: {error}") if refused else Unavailable(f"RabbitMQ says: {error}")
    return Unavailable(f"RabbitMQ is not available: {type(error).__name__}")
