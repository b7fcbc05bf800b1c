"""Valkey, or Redis: a stream for each topic, and a consumer group for each group.

A batch is added in one transaction, so that of a key nothing is stored without what comes before it. A group has one
consumer, its last receiver, and what is "delivered" to it is what is done: so the lag that the server shows of the
group is what it has not finished. Messages are read from there on without being marked as pending, as what is pending
to one consumer would be missing between what another one is given.

Valkey keeps what it is configured to keep: set `appendonly yes`, and `appendfsync always` if power loss matters.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

import msgspec
from valkey.asyncio import Valkey
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import ResponseError, ValkeyError
from valkey.exceptions import TimeoutError as ValkeyTimeout

from refold.bus.api import Message, checked
from refold.errors import NotPublished, Unavailable

ANSWER_SECONDS = 5.0
Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]

TAKE_OVER = """
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2])
end
redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], ARGV[1], ARGV[2])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local said = {}
    for i = 1, #group, 2 do said[group[i]] = group[i + 1] end
    if said['name'] == ARGV[1] then return said['last-delivered-id'] end
end
"""
"""Make the group if there is none, let it have one consumer only, and tell how far it has come."""

FINISH = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    if consumer[2] == ARGV[2] then return redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[3]) end
end
return redis.error_reply('REPLACED another one has taken over')
"""
"""Say how far the group has come, if this consumer still is its only one."""


class ValkeyBus:
    """A Valkey server."""

    def __init__(self, url: str) -> None:
        self._client: Any = Valkey.from_url(  # pyright: ignore[reportUnknownMemberType]
            url.replace("valkey://", "redis://", 1),
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=None,  # how long an answer may take depends on the question
        )

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Add messages in one transaction."""
        stream = _stream(topic)
        if not messages:
            return
        pipeline = self._client.pipeline(transaction=True)
        for message in messages:
            fields = {"id": message.id, "key": message.key, "body": message.body}
            pipeline.xadd(stream, {**fields, "headers": msgspec.json.encode(message.headers)})
        await _told(pipeline.execute())

    async def receive(self, topic: str, group: str) -> "ValkeyReceiver":
        """Become the only consumer of the group."""
        stream, name = _stream(topic), uuid.uuid4().hex
        reached = await _told(self._client.eval(TAKE_OVER, 1, stream, checked(group, "group"), name))
        return ValkeyReceiver(self._client, stream, group, name, reached)

    async def close(self) -> None:
        """Let go of the connections."""
        with suppress(ValkeyError, OSError):
            await self._client.aclose()


class ValkeyReceiver:
    """The only consumer of a group."""

    def __init__(self, client: Any, stream: str, group: str, name: str, reached: bytes) -> None:
        self._client = client
        self._stream = stream
        self._group = group
        self._name = name
        self._reached = self._done = reached
        self._ended = False

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Read on."""
        self._check()
        read = self._client.xread({self._stream: self._reached}, count=most, block=max(int(seconds * 1000), 1))
        answer: Any = await _told(read, seconds)
        found = cast(list[Entry], answer[0][1]) if answer else []
        if found:
            self._reached = found[-1][0]
        return [_message(fields) for _, fields in found]

    async def done(self) -> None:
        """Let the group have come to what was taken last, unless another one has taken over."""
        self._check()
        if self._reached != self._done:
            reached = self._reached
            await _told(self._client.eval(FINISH, 1, self._stream, self._group, self._name, reached))
            self._done = reached

    async def close(self) -> None:
        """Leave what is not finished to the next."""
        self._ended = True

    def _check(self) -> None:
        if self._ended:
            raise Unavailable("Valkey is not available: this receiver is closed")


def _message(fields: dict[bytes, bytes]) -> Message:
    """Read an entry; one that others have added may lack anything, or have something else there."""
    try:
        headers = msgspec.json.decode(fields.get(b"headers", b"{}"), type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        headers = {}
    message_id, key = (fields.get(name, b"").decode(errors="replace") for name in (b"id", b"key"))
    return Message(message_id, key, fields.get(b"body", b""), headers)


def _stream(topic: str) -> str:
    return f"refold:{checked(topic, 'topic')}"


AWAY = ("LOADING", "NOGROUP", "UNBLOCKED", "MASTERDOWN", "READONLY", "TRYAGAIN", "REPLACED", "BUSY")


async def _told(asked: Any, seconds: float = 0.0) -> Any:
    """Wait for an answer, so much longer than usual; turn the client's errors into ours."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS + seconds):
            return await asked
    except (ValkeyConnectionError, ValkeyTimeout, OSError, TimeoutError) as error:
        raise Unavailable(f"Valkey is not available: {type(error).__name__}") from None
    except ResponseError as error:
        if str(error).startswith(AWAY) or "no such key" in str(error):
            raise Unavailable(f"Valkey is not available: {error}") from None
        raise NotPublished(f"Valkey refuses: {error}") from None
    except ValkeyError as error:
        raise Unavailable(f"Valkey is not available: {error}") from None
