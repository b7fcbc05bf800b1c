"""Valkey, or Redis: a stream for each topic, and a consumer group for each group.

A batch is added in one transaction, so that of a key nothing is stored without what comes before it. Whoever begins
to receive first claims what earlier receivers were given and have not finished.

Valkey keeps what it is configured to keep: set `appendonly yes`, and `appendfsync always` if power loss matters.
"""

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
CLAIMED = 1000
Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]


class ValkeyBus:
    """A Valkey server."""

    def __init__(self, url: str) -> None:
        self._client: Any = Valkey.from_url(  # pyright: ignore[reportUnknownMemberType]
            url.replace("valkey://", "redis://", 1), socket_connect_timeout=ANSWER_SECONDS
        )

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Add messages in one transaction."""
        if not messages:
            return
        stream = _stream(topic)
        pipeline = self._client.pipeline(transaction=True)
        for message in messages:
            fields = {"id": message.id, "key": message.key, "body": message.body}
            pipeline.xadd(stream, {**fields, "headers": msgspec.json.encode(message.headers)})
        await _told(pipeline.execute())

    async def receive(self, topic: str, group: str) -> "ValkeyReceiver":
        """Take over what the group has not finished."""
        stream = _stream(topic)
        with suppress(NotPublished):  # there is such a group
            await _told(self._client.xgroup_create(stream, checked(group, "group"), id="0", mkstream=True))
        name = uuid.uuid4().hex
        claimed: list[Entry] = []
        start: Any = "0"
        while True:
            answer = await _told(self._client.xautoclaim(stream, group, name, 0, start_id=start, count=CLAIMED))
            start, found = answer[0], cast(list[Entry], answer[1])
            claimed += found
            if start in (b"0-0", "0-0"):
                return ValkeyReceiver(self._client, stream, group, name, claimed)

    async def close(self) -> None:
        """Let go of the connections."""
        with suppress(ValkeyError, OSError):
            await self._client.aclose()


class ValkeyReceiver:
    """A consumer of a group."""

    def __init__(self, client: Any, stream: str, group: str, name: str, claimed: list[Entry]) -> None:
        self._client = client
        self._stream = stream
        self._group = group
        self._name = name
        self._claimed = claimed
        self._taken: list[bytes] = []

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Return what was claimed first, then what is new."""
        if self._claimed:
            found, self._claimed = self._claimed[:most], self._claimed[most:]
        else:
            read = self._client.xreadgroup(
                self._group, self._name, {self._stream: ">"}, count=most, block=max(int(seconds * 1000), 1)
            )
            answer: Any = await _told(read)
            found = cast(list[Entry], answer[0][1]) if answer else []
        self._taken += [entry for entry, _ in found]
        return [_message(fields) for _, fields in found]

    async def done(self) -> None:
        """Acknowledge what was taken."""
        if self._taken:
            await _told(self._client.xack(self._stream, self._group, *self._taken))
            self._taken = []

    async def close(self) -> None:
        """Leave what is not finished to the next."""
        self._claimed, self._taken = [], []


def _message(fields: dict[bytes, bytes]) -> Message:
    headers = msgspec.json.decode(fields[b"headers"], type=dict[str, str])
    return Message(fields[b"id"].decode(), fields[b"key"].decode(), fields[b"body"], headers)


def _stream(topic: str) -> str:
    return f"refold:{checked(topic, 'topic')}"


async def _told(asked: Any) -> Any:
    """Wait for an answer; turn the client's errors into ours."""
    try:
        return await asked
    except (ValkeyConnectionError, ValkeyTimeout, OSError) as error:
        raise Unavailable(f"Valkey is not available: {type(error).__name__}") from None
    except ResponseError as error:
        if str(error).startswith(("LOADING", "NOGROUP", "UNBLOCKED", "MASTERDOWN", "READONLY", "TRYAGAIN")):
            raise Unavailable(f"Valkey is not available: {error}") from None
        raise NotPublished(f"Valkey refuses: {error}") from None
    except ValkeyError as error:
        raise Unavailable(f"Valkey is not available: {error}") from None
