"""Wrong buses: topics in memory, each with one fault, for the rule of the contract that must catch it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from refold.bus.api import Message
from refold.bus.memory import MemoryBus, MemoryReceiver, Topic
from refold.errors import Unavailable

T = TypeVar("T", bound=type[MemoryBus])


class Wrong(Struct):
    """A wrong bus, and the rules that must say so."""

    bus: type[MemoryBus]
    rules: tuple[str, ...]


WRONG: list[Wrong] = []


def breaks(*rules: str) -> Callable[[T], T]:
    """List a bus as one that these rules must catch."""

    def listed(bus: T) -> T:
        WRONG.append(Wrong(bus, rules))
        return bus

    return listed


class Bent(MemoryBus):
    """The bus in memory with receivers that can be bent."""

    Receiver: type[MemoryReceiver] = MemoryReceiver

    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        right = await super().receive(topic, group)
        bent = self.Receiver(right._topic, group)
        bent._topic.receivers[group] = bent
        return bent


# What is published.


@breaks("b01_what_is_published_is_received_as_it_was")
class StripsKeys(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await super().publish(topic, [replace(each, key=each.key.strip()) for each in messages])


@breaks("b01_what_is_published_is_received_as_it_was")
class HasHeadersInLatin(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        def sent(text: str) -> str:
            return text.encode("latin-1", "replace").decode("ascii", "replace")

        await super().publish(
            topic, [replace(each, headers={k: sent(v) for k, v in each.headers.items()}) for each in messages]
        )


@breaks("b02_in_the_order_of_publishing")
class SortsABatchById(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await super().publish(topic, sorted(messages, key=lambda each: each.id))


@breaks("b02_in_the_order_of_publishing")
class KeepsTheFirstThousand(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await super().publish(topic, messages[:1_000])


@breaks("b04_topics_are_apart")
class CutsTopicsAtTheDash(MemoryBus):
    def _topic(self, name: str) -> Topic:
        return super()._topic(name.partition("-")[0])


@breaks("b10_nothing_is_published_without_harm")
class EndsEachBatchWithAMessage(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await super().publish(topic, messages or [Message("", "", b"")])


@breaks("b11_several_may_publish")
class WritesWhatItHasReadBefore(MemoryBus):
    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        before = list(self._topic(topic).messages)
        await asyncio.sleep(0)
        self._topic(topic).messages[:] = before
        await super().publish(topic, messages)


@breaks("b13_names_that_no_broker_has_are_refused")
class TakesAnyNameOfATopic(MemoryBus):
    def _topic(self, name: str) -> Topic:
        return self._topics.setdefault(name, Topic())


@breaks("b13_names_that_no_broker_has_are_refused")
class TakesAnyNameOfAGroup(MemoryBus):
    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        await super().receive(topic, "group")
        receiver = MemoryReceiver(self._topic(topic), group)
        self._topic(topic).receivers[group] = receiver
        return receiver


# Where a group begins.


@breaks("b03_each_group_receives_all")
class BeginsWithWhatComesNext(MemoryBus):
    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        messages = self._topic(topic).messages
        self._topic(topic).finished.setdefault(group, len(messages))
        return await super().receive(topic, group)


@breaks("b03_each_group_receives_all")
class HasOneGroup(MemoryBus):
    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        return await super().receive(topic, "group" if group.isidentifier() else group)


@breaks("b07_another_receiver_takes_over_without_the_first_being_closed")
class WaitsForTheOtherToClose(MemoryBus):
    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        before = self._topic(topic).receivers.get(group)
        receiver = await super().receive(topic, group)
        if before is not None and not before._closed:
            receiver._next = before._next
        return receiver


@breaks("b16_a_group_keeps_its_place_while_nobody_does_anything")
class HasAPlaceForEachReceiver(MemoryBus):
    async def receive(self, topic: str, group: str) -> MemoryReceiver:
        receiver = await super().receive(topic, group)
        self._topic(topic).finished.pop(group, None)
        return receiver


@breaks("b06_what_is_not_done_comes_again_before_what_is_later")
class LetsItComeAgainBehind(Bent):
    class Receiver(MemoryReceiver):
        async def close(self) -> None:
            messages, start = self._topic.messages, self._topic.finished.get(self._group, 0)
            messages[start:] = messages[start:][::-1]
            await super().close()


# What is done.


@breaks("b05_what_is_done_does_not_come_again")
class ForgetsWhatIsDone(Bent):
    class Receiver(MemoryReceiver):
        async def done(self) -> None:
            self._check()


@breaks("b06_what_is_not_done_comes_again_before_what_is_later")
class IsDoneWhenItIsTaken(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            found = await super().take(most, seconds)
            await self.done()
            return found


@breaks("b06_what_is_not_done_comes_again_before_what_is_later")
class IsDoneWhenItIsClosed(Bent):
    class Receiver(MemoryReceiver):
        async def close(self) -> None:
            await self.done()
            await super().close()


@breaks("b15_one_that_was_replaced_does_not_move_the_group")
class LetsAnyoneBeDone(Bent):
    class Receiver(MemoryReceiver):
        async def done(self) -> None:
            self._topic.finished[self._group] = self._next


@breaks("b17_it_is_done_with_what_was_taken")
class IsDoneWithEverything(Bent):
    class Receiver(MemoryReceiver):
        async def done(self) -> None:
            await super().done()
            self._topic.finished[self._group] = len(self._topic.messages)


# What is taken.


@breaks("b08_it_waits_for_what_comes")
class DoesNotWait(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            return await super().take(most, 0.01)


@breaks("b08_it_waits_for_what_comes")
class WaitsForAll(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            found = await super().take(most, seconds)
            if 0 < len(found) < most:
                await asyncio.sleep(seconds)
            return found


@breaks("b09_not_more_than_asked_for")
class GivesAll(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            return await super().take(10_000, seconds)


@breaks("b09_not_more_than_asked_for")
class DropsTheRest(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            return (await super().take(10_000, seconds))[:most]


@breaks("b12_who_stops_waiting_loses_nothing")
class GivesToWhoIsGone(Bent):
    class Receiver(MemoryReceiver):
        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            found = await super().take(most, seconds)
            if found:
                await asyncio.sleep(0.001)
            return found


@breaks("b14_the_last_one_is_given_everything")
class SharesBetweenReceivers(Bent):
    class Receiver(MemoryReceiver):
        def _check(self) -> None:
            if self._closed:
                raise Unavailable("closed")

        async def take(self, most: int, seconds: float) -> Sequence[Message]:
            taken: dict[str, Any] = self._topic.__dict__
            self._next = max(self._next, taken.get("shared", 0))
            found = await super().take(most, seconds)
            taken["shared"] = self._next
            return found


@breaks("b18_who_is_closed_gives_nothing")
class GivesWhenItIsClosed(Bent):
    class Receiver(MemoryReceiver):
        async def close(self) -> None:
            """Stay open."""
