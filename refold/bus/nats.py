"""NATS JetStream: a stream for each topic, and batches that are stored whole or not at all.

A batch is published atomically (the headers `Nats-Batch-*`, NATS 2.12 and later), so that of a key nothing is stored
without what comes before it. A group is a consumer that acknowledges in order. Whoever begins to receive makes a new
one, from where the last one was acknowledged, and removes that: what was delivered and not acknowledged comes again
at once, in order, and an earlier receiver has nothing left to receive from.

A server that is killed loses nothing; but NATS waits for the disk only every two minutes: set `sync_interval: always`
if power loss matters, and for several servers make the streams `refold-TOPIC` with their replicas before they are used.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.js.errors import Error as JetStreamError

from refold.bus.api import Message, checked
from refold.errors import NotPublished, Unavailable

MOST_IN_BATCH = 1000
"""As the server has it."""
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 5.0
MOST_PENDING = 64 * 1024 * 1024
"""Bytes that may wait for the network."""
PLAIN = "".join(map(chr, range(ord("!"), 127))).replace("%", "")
NOT_FOUND = (10014, 10059)
"""The server's codes for a consumer and a stream that do not exist."""
LEFT_UNFINISHED = (10176, 10210, 10211)
"""Its codes for a batch that it has forgotten, and for too many that are not finished: it takes them another time."""


class NatsBus:
    """A NATS server with JetStream."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._topics: set[str] = set()
        self.breaks = 0
        """How often the connection was lost: what was on its way then may not have arrived."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish messages, a thousand at a time whole."""
        client = await self._ready(topic)
        for start in range(0, len(messages), MOST_IN_BATCH):
            await self._publish(client, topic, messages[start : start + MOST_IN_BATCH])

    async def receive(self, topic: str, group: str) -> "NatsReceiver":
        """Make a consumer that goes on where the group's last one was acknowledged."""
        await self._ready(topic)
        try:
            return await self._consume(topic, group)
        except _Missing:
            self._topics.discard(topic)  # and so it is made again
            raise _away(f"the stream {_stream(topic)} was removed") from None

    async def _consume(self, topic: str, group: str) -> "NatsReceiver":
        stream, prefix = _stream(topic), f"{checked(group, 'group')}-"
        last, start = 0, 1
        for name in await self._names(stream):
            counted = name.removeprefix(prefix)
            if name.startswith(prefix) and counted.isdecimal():
                last = max(last, int(counted))
        if last:
            info = await self.ask(f"CONSUMER.INFO.{stream}.{prefix}{last}", {})
            start = int(info["ack_floor"]["stream_seq"]) + 1
        name = f"{prefix}{last + 1}"
        config = {
            "name": name,
            "durable_name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "ack_policy": "all",
            "ack_wait": 24 * 3600 * 10**9,
            "max_ack_pending": -1,
        }
        await self.ask(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
        for number in range(max(last - 1, 1), last + 1):
            with suppress(_Missing):
                await self.ask(f"CONSUMER.DELETE.{stream}.{prefix}{number}", {})
        return NatsReceiver(self, await self.client(), stream, name)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            with suppress(NatsError, TimeoutError):
                await self._client.close()
            self._client = None

    async def client(self) -> Client:
        """Return a connection; raise `Unavailable` if there is none."""
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                client = Client()
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await client.connect(
                            self._url,
                            allow_reconnect=False,
                            error_cb=_quiet,
                            disconnected_cb=self._broken,
                            pending_size=MOST_PENDING,
                        )
                except (OSError, NatsError, TimeoutError) as error:
                    with suppress(OSError, NatsError):
                        await client.close()
                    raise _away(error) from None
                self._client = client
            if not self._client.is_connected:
                raise _away("it is being connected to again")
            return self._client

    async def ask(self, subject: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Ask JetStream for something."""
        client = await self.client()
        try:
            answer = await client.request(f"$JS.API.{subject}", msgspec.json.encode(given), timeout=ANSWER_SECONDS)
        except (OSError, NatsError, TimeoutError) as error:
            raise _away(error) from None
        found: dict[str, Any] = msgspec.json.decode(answer.data)
        if refusal := found.get("error"):
            if refusal.get("err_code") in NOT_FOUND:
                raise _Missing
            if refusal.get("code") == 503:
                raise _away(refusal.get("description"))
            raise NotPublished(f"NATS refuses {subject.partition('.')[0].lower()}: {refusal.get('description')}")
        return found

    async def _publish(self, client: Client, topic: str, messages: Sequence[Message]) -> None:
        batch = uuid.uuid4().hex
        subject = _subject(topic)
        try:
            for number, message in enumerate(messages, 1):
                headers = {
                    **{name: _quoted(value) for name, value in message.headers.items()},
                    "Refold-Id": _quoted(message.id),
                    "Refold-Key": _quoted(message.key),
                    "Nats-Batch-Id": batch,
                    "Nats-Batch-Sequence": str(number),
                }
                if number < len(messages):
                    await client.publish(subject, message.body, headers=headers)
                else:
                    headers["Nats-Batch-Commit"] = "1"
                    answer = await client.request(subject, message.body, timeout=ANSWER_SECONDS, headers=headers)
                    confirmed(answer, len(messages))
        except MaxPayloadError:
            raise NotPublished("NATS refuses a message: it is larger than max_payload") from None
        except NoRespondersError:
            self._topics.discard(topic)
            raise _away(f"nobody takes messages for {subject}; was its stream removed?") from None
        except (OSError, NatsError, JetStreamError, TimeoutError) as error:
            raise _away(error) from None

    async def _names(self, stream: str) -> list[str]:
        names: list[str] = []
        while True:
            found = await self.ask(f"CONSUMER.NAMES.{stream}", {"offset": len(names)})
            more: list[str] = found.get("consumers") or []
            names += more
            if not more or len(names) >= found["total"]:
                return names

    async def _ready(self, topic: str) -> Client:
        """Return a connection to a server that has the stream of a topic."""
        client = await self.client()
        if topic not in self._topics:
            stream = _stream(checked(topic, "topic"))
            config = {
                "name": stream,
                "subjects": [_subject(topic)],
                "retention": "limits",
                "storage": "file",
                "allow_atomic": True,
            }
            try:
                info = await self.ask(f"STREAM.INFO.{stream}", {})
            except _Missing:
                info = await self.ask(f"STREAM.CREATE.{stream}", config)
            if not info["config"].get("allow_atomic"):
                raise NotPublished(
                    f"the stream {stream} takes no atomic batches; it needs NATS 2.12 or later, and allow_atomic"
                )
            self._topics.add(topic)
        return client

    async def _broken(self) -> None:
        self.breaks += 1
        self._topics.clear()


class NatsReceiver:
    """A consumer that is pulled from."""

    def __init__(self, bus: NatsBus, client: Client, stream: str, name: str) -> None:
        self._bus = bus
        self._client = client
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._breaks = bus.breaks
        self._last: Msg | None = None
        self._ended = ""

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Pull messages."""
        self._check()
        try:
            return await self._take(most, seconds)
        except asyncio.CancelledError:
            # What is on its way now is given to nobody, and would be acknowledged with what comes after it.
            self._ended = "its last call was cancelled"
            raise

    async def _take(self, most: int, seconds: float) -> Sequence[Message]:
        inbox = self._client.new_inbox()
        found: list[Message] = []
        try:
            subscription = await self._client.subscribe(inbox)
            try:
                # What lies ready comes first; only if there is nothing is it waited for.
                for waits in (False, True):
                    wanted: dict[str, Any] = {"batch": most if not waits else 1}
                    wanted |= {"expires": int(seconds * 1e9)} if waits else {"no_wait": True}
                    await self._client.publish(self._next, msgspec.json.encode(wanted), reply=inbox)
                    while len(found) < wanted["batch"]:
                        message = await subscription.next_msg(timeout=seconds * waits + ANSWER_SECONDS)
                        status = (message.headers or {}).get("Status")
                        if status in ("404", "408"):
                            break
                        if status is not None:
                            description = (message.headers or {}).get("Description", "")
                            raise _away(f"the consumer was replaced or removed: {status} {description}")
                        self._last = message
                        found.append(_message(message))
                    if found or seconds <= 0:
                        break
            finally:
                with suppress(NatsError):
                    await subscription.unsubscribe()
        except (OSError, NatsError, TimeoutError) as error:
            raise _away(error) from None
        self._check()
        return found

    async def done(self) -> None:
        """Acknowledge the last message, and with it all before."""
        if self._last is None:
            return
        self._check()
        last, self._last = self._last, None
        try:
            await last.ack_sync(timeout=ANSWER_SECONDS)
        except (OSError, NatsError, TimeoutError) as error:
            raise _away(error) from None

    async def close(self) -> None:
        """Leave the consumer to be replaced."""
        self._last, self._ended = None, "it is closed"

    def _check(self) -> None:
        if self._ended:
            raise _away(f"this receiver is of no use any more: {self._ended}")
        if self._bus.breaks != self._breaks:
            raise _away("the connection was lost, and what was on its way with it")


class _Missing(Exception):
    """There is no such stream or consumer."""


def confirmed(answer: Msg, count: int) -> None:
    """Raise unless the server has stored a batch of so many."""
    found: dict[str, Any] = msgspec.json.decode(answer.data)
    if error := found.get("error"):
        if error.get("code") == 503 or error.get("err_code") in LEFT_UNFINISHED:
            raise _away(error.get("description"))
        raise NotPublished(f"NATS refuses the messages: {error.get('description')}")
    if count > 1 and found.get("count") != count:
        raise NotPublished(f"NATS has taken {found.get('count')} of {count} messages as one batch")


def _message(found: Msg) -> Message:
    headers = {name: unquote(value) for name, value in (found.headers or {}).items()}
    message_id, key = headers.pop("Refold-Id", ""), headers.pop("Refold-Key", "")
    for name in ("Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"):
        headers.pop(name, None)
    return Message(message_id, key, found.data, headers)


def _quoted(value: str) -> str:
    """Return it without what would end a header, or be taken off its ends."""
    return quote(value, safe=PLAIN)


def _stream(topic: str) -> str:
    return f"refold-{topic}"


def _subject(topic: str) -> str:
    return f"refold.{topic}"


def _away(why: object) -> Unavailable:
    # The address is left out: it may have a password in it.
    said = str(why) or type(why).__name__
    return Unavailable(f"NATS is not available: {said}")


async def _quiet(error: Exception) -> None:
    """Say nothing here: what fails is told to who asked for it."""
