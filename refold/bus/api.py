"""The port of brokers: topics that keep messages, and groups that each receive all of them.

A log needs little of a broker. What is published comes from the log, which can be read again; what is received is
deduplicated and parked by who receives it. So a broker may repeat, but it must not lose, and not overtake.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from refold.errors import WiringError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Message(Struct, frozen=True):
    """What is published, and received."""

    id: str
    key: str
    """Messages of one key are received in the order in which they were published."""
    body: bytes
    headers: Mapping[str, str] = {}


class Receiver(Protocol):
    """What a group receives of a topic; of several of one group, that were opened one after the other, the last."""

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Return the next messages: wait so long for the first, and for no others; empty if none came.

        Raises `Unavailable` if the broker is away, or another receiver has taken over; then this receiver is of no use
        any more. Whoever stops waiting loses nothing: what had come is returned next time, or that raises, too.
        """
        ...

    async def done(self) -> None:
        """Say that all that was taken is finished, so that the group does not receive it again.

        Raises `Unavailable` if the broker does not confirm it, or another receiver has taken over; then it may come
        again.
        """
        ...

    async def close(self) -> None:
        """End. What was taken and is not done comes again to the next receiver, before what is published later."""
        ...


class Bus(Protocol):
    """A broker."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand messages over in order, and return when the broker has them all for good.

        Raises `Unavailable` if it is away, and `NotPublished` for what it refuses. Then of each key the first ones
        may be there, but none without those before it: to repeat all of them repeats some, and leaves no gap.
        """
        ...

    async def receive(self, topic: str, group: str) -> Receiver:
        """Begin to receive what a group has not finished; a group that is new begins with the oldest that there is."""
        ...

    async def close(self) -> None:
        """Let go of the broker."""
        ...


def checked(name: str, what: str) -> str:
    """Return the name of a topic or group; refuse one that not every broker could have."""
    if not NAME.fullmatch(name):
        raise WiringError(f"{name!r} cannot be the name of a {what}: letters, digits, _ and -, at most 100")
    return name
