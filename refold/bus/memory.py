"""The port in its shortest form: a broker within the process, for tests and for contexts that share one."""

import asyncio
from collections.abc import Sequence

from refold.bus.api import Message, checked
from refold.errors import Unavailable


class MemoryBus:
    """Topics that are gone when the process ends."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Keep messages."""
        self._topic(topic).add(messages)

    async def receive(self, topic: str, group: str) -> "MemoryReceiver":
        """Begin after what the group has finished."""
        receiver = MemoryReceiver(self._topic(topic), checked(group, "group"))
        self._topic(topic).receivers[group] = receiver
        return receiver

    async def close(self) -> None:
        """Stay: others of the process may use it."""

    def _topic(self, name: str) -> "Topic":
        return self._topics.setdefault(checked(name, "topic"), Topic())


class Topic:
    """Messages in order, and how many of them each group has finished."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.finished: dict[str, int] = {}
        self.receivers: dict[str, MemoryReceiver] = {}
        """The last of each group."""
        self.more = asyncio.Event()

    def add(self, messages: Sequence[Message]) -> None:
        """Keep more, and wake who waits for them."""
        self.messages += messages
        self.more.set()
        self.more = asyncio.Event()


class MemoryReceiver:
    """A place in a topic."""

    def __init__(self, topic: Topic, group: str) -> None:
        self._topic = topic
        self._group = group
        self._next = topic.finished.get(group, 0)
        self._closed = False

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Return the next messages."""
        self._check()
        try:
            async with asyncio.timeout(seconds):
                while self._next == len(self._topic.messages):
                    await self._topic.more.wait()
        except TimeoutError:
            return []
        found = self._topic.messages[self._next : self._next + most]
        self._next += len(found)
        return found

    async def done(self) -> None:
        """Remember how far the group has come."""
        self._check()
        self._topic.finished[self._group] = self._next

    async def close(self) -> None:
        """End."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("the receiver is closed")
        if self._topic.receivers.get(self._group) is not self:
            raise Unavailable("another receiver has taken over")
