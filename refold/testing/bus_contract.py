"""The contract of brokers as tests: a backend of `refold.bus.api.Bus` joins by saying how it is opened.

    from refold.testing import BusContract

    class TestMyBus(BusContract):
        @asynccontextmanager
        async def bus(self, tmp_path):
            yield MyBus(...)

What is opened again with the same `tmp_path` is the same broker, also while others are open. pytest finds the rules in
the subclass; no plugin is needed.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from refold.bus.api import Bus, Message, Receiver
from refold.errors import Unavailable, WiringError

PATIENCE = 60.0
SOON = 10.0
"""Seconds in which what was published has to come."""
Open: TypeAlias = Callable[[], Coroutine[Any, Any, Bus]]


class BusContract(ABC):
    """Every rule that a broker must keep; subclass it and say in `bus` how it is opened."""

    @abstractmethod
    def bus(self, tmp_path: Path) -> AbstractAsyncContextManager[Bus]:
        """Open the broker that belongs to a folder, and close it in the end."""

    def test_b01_what_is_published_is_received_as_it_was(self, tmp_path: Path) -> None:
        """Bytes, headers, key and id."""

        async def rule(open_: Open) -> None:
            sent = [
                Message("1", "order:o-1", bytes(range(256)), {"content-type": "application/json", "name": "Zoë"}),
                Message("2", "", b"", {}),
                Message("é" * 50, "kunde:ä", b'{"a":1}\n\n', {"a": "x: y"}),
                Message("4", "k", b"x" * 500_000, {}),
                Message(" 5\r\nRefold-Id: 6\t%41 ", " a\n: b ", b"", {"lines": "1\r\n2\n", "blank": " "}),
            ]
            bus = await open_()
            await bus.publish("topic", sent)
            received = await _all(await bus.receive("topic", "group"), len(sent))
            assert sorted(received, key=_id) == sorted(sent, key=_id)

        self._run(rule, tmp_path)

    def test_b02_in_the_order_of_publishing(self, tmp_path: Path) -> None:
        """Of each key, over batches of all sizes."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            sent = _messages(3000, keys=7)
            for start, end in ((0, 1), (1, 2), (2, 500), (500, 2900), (2900, 3000)):
                await bus.publish("topic", sent[start:end])
            _in_order(await _all(await bus.receive("topic", "group"), 3000), sent)

        self._run(rule, tmp_path)

    def test_b03_each_group_receives_all(self, tmp_path: Path) -> None:
        """Also one that is new when all is published."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(20)
            first = await bus.receive("topic", "first")
            await bus.publish("topic", sent)
            assert len(await _all(first, 20)) == 20
            await first.done()
            assert len(await _all(await bus.receive("topic", "second"), 20)) == 20

        self._run(rule, tmp_path)

    def test_b04_topics_are_apart(self, tmp_path: Path) -> None:
        """Also of names of which one begins with the other."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            await bus.publish("orders", _messages(3))
            await bus.publish("orders-2", _messages(5))
            receiver = await bus.receive("orders", "group")
            assert len(await _all(receiver, 3)) == 3
            assert await receiver.take(10, 0.2) == []

        self._run(rule, tmp_path)

    def test_b05_what_is_done_does_not_come_again(self, tmp_path: Path) -> None:
        """Neither to the receiver, nor to the next one, nor when the broker is opened anew."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(10)
            await bus.publish("topic", sent)
            receiver = await bus.receive("topic", "group")
            await _all(receiver, 10)
            await receiver.done()
            assert await receiver.take(10, 0.2) == []
            await receiver.close()
            again = await bus.receive("topic", "group")
            assert await again.take(10, 0.2) == []
            await again.close()
            await bus.close()
            bus = await open_()
            assert await (await bus.receive("topic", "group")).take(10, 0.2) == []

        self._run(rule, tmp_path)

    def test_b06_what_is_not_done_comes_again_before_what_is_later(self, tmp_path: Path) -> None:
        """In the same order, to the next receiver."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(30, keys=3)
            await bus.publish("topic", sent[:20])
            receiver = await bus.receive("topic", "group")
            first = await _all(receiver, 20, most=5, done=10)
            done = {message.id for message in first[:10]}
            await receiver.close()
            await bus.publish("topic", sent[20:])
            again = await _all(await bus.receive("topic", "group"), 20)
            assert done.isdisjoint(message.id for message in again)
            _in_order([*first[:10], *again], sent)

        self._run(rule, tmp_path)

    def test_b07_another_receiver_takes_over_without_the_first_being_closed(self, tmp_path: Path) -> None:
        """As when its process was killed."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(10)
            await bus.publish("topic", sent)
            assert len(await _all(await bus.receive("topic", "group"), 10)) == 10
            other = await open_()
            _in_order(await _all(await other.receive("topic", "group"), 10), sent)

        self._run(rule, tmp_path)

    def test_b08_it_waits_for_what_comes(self, tmp_path: Path) -> None:
        """And not for more than the first."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            receiver = await bus.receive("topic", "group")
            assert await receiver.take(10, 0) == []
            waiting = asyncio.create_task(receiver.take(10, SOON))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await bus.publish("topic", _messages(1))
            async with asyncio.timeout(SOON / 2):
                assert [each.id for each in await waiting] == ["0"]

        self._run(rule, tmp_path)

    def test_b09_not_more_than_asked_for(self, tmp_path: Path) -> None:
        """And the rest later."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(25)
            await bus.publish("topic", sent)
            receiver = await bus.receive("topic", "group")
            parts: list[Sequence[Message]] = []
            while sum(map(len, parts)) < 25:
                parts.append(await receiver.take(10, SOON))
                assert parts[-1], "not all have come"
            assert max(map(len, parts)) <= 10
            _in_order([message for part in parts for message in part], sent)

        self._run(rule, tmp_path)

    def test_b10_nothing_is_published_without_harm(self, tmp_path: Path) -> None:
        """An empty batch is no message."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            await bus.publish("topic", [])
            receiver = await bus.receive("topic", "group")
            await receiver.done()
            assert await receiver.take(10, 0.1) == []

        self._run(rule, tmp_path)

    def test_b11_several_may_publish(self, tmp_path: Path) -> None:
        """Each of them in order."""

        async def rule(open_: Open) -> None:
            buses = [await open_() for _ in range(3)]
            sent = [_messages(200, prefix=f"{number}-") for number in range(3)]

            async def publish(bus: Bus, messages: Sequence[Message]) -> None:
                for start in range(0, 200, 20):
                    await bus.publish("topic", messages[start : start + 20])

            await asyncio.gather(*map(publish, buses, sent))
            received = await _all(await buses[0].receive("topic", "group"), 600)
            for messages in sent:
                mine = {message.id for message in messages}
                _in_order([message for message in received if message.id in mine], messages)

        self._run(rule, tmp_path)

    def test_b12_who_stops_waiting_loses_nothing(self, tmp_path: Path) -> None:
        """What had come by then is received later: by the same receiver, unless it says that it is of no use."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(200)
            receiver = await bus.receive("topic", "group")
            received: list[Message] = []

            async def stop(turns: int, seconds: float = 0.0) -> None:
                waiting = asyncio.create_task(receiver.take(3, SOON))
                await asyncio.sleep(seconds)
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                (given,) = await asyncio.gather(waiting, return_exceptions=True)
                received.extend([] if isinstance(given, BaseException) else given)

            await stop(0, 0.05)
            await bus.publish("topic", sent)
            for attempt in range(40):
                try:
                    await stop(3 * attempt)
                    received += await receiver.take(2, SOON)
                    await receiver.done()
                except Unavailable:
                    receiver = await bus.receive("topic", "group")
            while sent[-1] not in received:
                try:
                    more = await receiver.take(500, SOON)
                except Unavailable:
                    receiver = await bus.receive("topic", "group")
                else:
                    assert more, "the last has not come"
                    received += more
            assert list(dict.fromkeys(map(_id, received))) == list(map(_id, sent))

        self._run(rule, tmp_path)

    def test_b13_names_that_no_broker_has_are_refused(self, tmp_path: Path) -> None:
        """Of topics and groups."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            for name in ("", "a b", "a.b", "a*", "a/b", "ä", "-a", "a" * 101):
                with pytest.raises(WiringError):
                    await bus.publish(name, _messages(1))
                with pytest.raises(WiringError):
                    await bus.receive("topic", name)

        self._run(rule, tmp_path)

    def test_b14_the_last_one_is_given_everything(self, tmp_path: Path) -> None:
        """Whatever is taken from one that it has replaced, which may also raise."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(10)
            first = await bus.receive("topic", "group")
            second = await bus.receive("topic", "group")
            await bus.publish("topic", sent)
            with suppress(Unavailable):
                await first.take(5, 0.2)
            await first.close()
            _in_order(await _all(second, 10), sent)

        self._run(rule, tmp_path)

    def test_b15_one_that_was_replaced_does_not_move_the_group(self, tmp_path: Path) -> None:
        """Neither back, nor on, by saying late that it is done, or by being closed."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(20)
            await bus.publish("topic", sent)
            first = await bus.receive("topic", "group")
            assert await _all(first, 5)
            second = await (await open_()).receive("topic", "group")
            _in_order(await _all(second, 10, done=10), sent[:10])
            with suppress(Unavailable):
                await first.done()
            await first.close()
            third = await bus.receive("topic", "group")
            _in_order(await _all(third, 10), sent[10:])

        self._run(rule, tmp_path)

    def test_b16_a_group_keeps_its_place_while_nobody_does_anything(self, tmp_path: Path) -> None:
        """Over several receivers, one after the other, and one that is done with nothing."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(20)
            await bus.publish("topic", sent)
            receiver = await bus.receive("topic", "group")
            await _all(receiver, 10, done=10)
            for number in range(3):
                receiver = await bus.receive("topic", "group")
                if number == 1:
                    await receiver.done()
            _in_order(await _all(receiver, 10), sent[10:])

        self._run(rule, tmp_path)

    def test_b17_it_is_done_with_what_was_taken(self, tmp_path: Path) -> None:
        """And not with what it could have been given."""

        async def rule(open_: Open) -> None:
            bus, sent = await open_(), _messages(30)
            await bus.publish("topic", sent)
            receiver = await bus.receive("topic", "group")
            taken = await _all(receiver, 3, most=3)
            await receiver.done()
            _in_order([*taken, *await _all(await bus.receive("topic", "group"), 27)], sent)

        self._run(rule, tmp_path)

    def test_b18_who_is_closed_gives_nothing(self, tmp_path: Path) -> None:
        """It raises."""

        async def rule(open_: Open) -> None:
            bus = await open_()
            await bus.publish("topic", _messages(3))
            receiver = await bus.receive("topic", "group")
            await receiver.close()
            with pytest.raises(Unavailable):
                await receiver.take(10, 0)

        self._run(rule, tmp_path)

    def _run(self, rule: Callable[[Open], Coroutine[Any, Any, None]], tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(PATIENCE), AsyncExitStack() as closing:

                async def open_() -> Bus:
                    return await closing.enter_async_context(self.bus(tmp_path))

                await rule(open_)

        asyncio.run(run())


def _messages(count: int, *, keys: int = 1, prefix: str = "") -> list[Message]:
    return [Message(f"{prefix}{number}", f"{prefix}k-{number % keys}", b"%d" % number) for number in range(count)]


async def _all(receiver: Receiver, count: int, *, most: int = 500, done: int | None = None) -> list[Message]:
    """Take until there are so many; say after `done` of them that they are."""
    found: list[Message] = []
    while len(found) < count:
        upto = done if done is not None and len(found) < done else count
        more = await receiver.take(min(most, upto - len(found)), SOON)
        assert more, f"only {len(found)} of {count} have come"
        found += more
        if len(found) == done:
            await receiver.done()
    return found


def _id(message: Message) -> str:
    return message.id


def _in_order(received: Sequence[Message], sent: Sequence[Message]) -> None:
    """Each once, and those of a key as they were sent."""
    assert sorted(each.id for each in received) == sorted(each.id for each in sent)
    for key in {each.key for each in sent}:
        assert [each for each in received if each.key == key] == [each for each in sent if each.key == key]
