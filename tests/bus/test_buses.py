"""The brokers keep the contract; and a broker that is killed loses nothing that it has confirmed."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import aio_pika
import nats
import pytest
from confluent_kafka import Producer
from valkey.asyncio import Valkey

from refold.bus.api import Bus, Message, Receiver
from refold.bus.memory import MemoryBus
from refold.bus.nats import NatsBus, confirmed
from refold.bus.open import check_bus_url, open_bus
from refold.errors import NotPublished, Unavailable, WiringError
from refold.testing import BusContract, KafkaServer, NatsServer, RabbitServer, ValkeyServer

SERVERS: dict[str, Any] = {"nats": NatsServer, "valkey": ValkeyServer, "amqp": RabbitServer, "kafka": KafkaServer}
MEMORY: dict[Path, MemoryBus] = {}


RESTARTER = ThreadPoolExecutor(1)
"""A server ends with the thread that has started it: this one stays."""


async def in_thread(function: Callable[[], None]) -> None:
    await asyncio.get_running_loop().run_in_executor(RESTARTER, function)


async def to_nats(url: str, body: bytes) -> None:
    client = await nats.connect(url)
    await client.publish("refold.others", body)
    await client.flush()
    await client.close()


async def to_valkey(url: str, body: bytes) -> None:
    client = Valkey.from_url(url.replace("valkey://", "redis://"))
    await client.xadd("refold:others", {"body": body, "key": b"\xff", "headers": b"none"})
    await client.aclose()


async def to_rabbitmq(url: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(body, headers={"number": 7, "nothing": None})
        await channel.default_exchange.publish(message, "refold.others")


async def to_kafka(url: str, body: bytes) -> None:
    producer = Producer({"bootstrap.servers": url.removeprefix("kafka://")})
    producer.produce("refold.others", body, b"\xff", headers=[("nothing", None), ("bytes", b"\xff")])
    assert await asyncio.to_thread(producer.flush, 10) == 0


RAW = {"nats": to_nats, "valkey": to_valkey, "amqp": to_rabbitmq, "kafka": to_kafka}
"""How a program publishes that is not Refold, and does not know what Refold adds."""


class Prefixed:
    """A broker whose topics belong to one test."""

    def __init__(self, bus: Bus, prefix: str) -> None:
        self._bus = bus
        self._prefix = prefix
        self.close = bus.close

    async def publish(self, topic: str, messages: Any) -> None:
        await self._bus.publish(self._prefix + topic if topic[:1].isalnum() and len(topic) < 80 else topic, messages)

    async def receive(self, topic: str, group: str) -> Receiver:
        return await self._bus.receive(self._prefix + topic, group)


class TestMemoryBus(BusContract):
    @asynccontextmanager
    async def bus(self, tmp_path: Path) -> AsyncIterator[Bus]:
        yield MEMORY.setdefault(tmp_path, MemoryBus())


class OnServer(BusContract):
    scheme: str
    server: Any
    too_large = 2_000_000

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def one_server(cls) -> Iterator[None]:
        with SERVERS[cls.scheme]() as server:
            cls.server = server
            yield

    @asynccontextmanager
    async def bus(self, tmp_path: Path) -> AsyncIterator[Bus]:
        bus = await open_bus(self.server.url)
        yield Prefixed(bus, blake2b(str(tmp_path).encode(), digest_size=6).hexdigest())
        await bus.close()

    async def test_what_is_too_large_is_refused_and_leaves_no_gap(self) -> None:
        bus = await open_bus(self.server.url)
        sent = [Message("1", "k", b"x"), Message("2", "k", b"x" * self.too_large), Message("3", "k", b"x")]
        if self.too_large:
            with pytest.raises(NotPublished):
                await bus.publish("large", sent)
        receiver = await bus.receive("large", "group")
        received = [each.id for each in await receiver.take(10, 1)]
        await bus.publish("large", sent[2:])
        async with asyncio.timeout(60):
            while "3" not in received:
                received += [each.id for each in await receiver.take(10, 5)]
        assert received in (["3"], ["1", "3"])
        await bus.close()

    async def test_what_others_publish_comes_with_its_bytes_whatever_else_it_lacks(self) -> None:
        bus = await open_bus(self.server.url)
        await bus.publish("others", [Message("1", "k", b"ours")])
        await RAW[self.scheme](self.server.url, b"\xff theirs")
        await bus.publish("others", [Message("3", "k", b"ours again")])
        receiver, received = await bus.receive("others", "group"), list[Message]()
        async with asyncio.timeout(60):
            while len(received) < 3:
                received += await receiver.take(10, 5)
        await receiver.done()
        assert sorted(each.body for each in received) == [b"ours", b"ours again", b"\xff theirs"]
        assert [each.id for each in received if each.body == b"\xff theirs"] == [""]
        await bus.close()

    async def test_one_that_hangs_is_not_waited_for_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bus = await open_bus(self.server.url)
        monkeypatch.setattr(sys.modules[type(bus).__module__], "ANSWER_SECONDS", 1.0)
        sent = [Message(str(number), "k", b"x") for number in range(3)]
        await bus.publish("hangs", sent[:1])
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                with pytest.raises(Unavailable):
                    await bus.publish("hangs", sent[1:])
                with pytest.raises(Unavailable):
                    await bus.receive("hangs", "group")
        finally:
            os.kill(self.server.pid, signal.SIGCONT)
        received: list[str] = []
        receiver: Receiver | None = None
        async with asyncio.timeout(30):
            while "2" not in received:
                with suppress(Unavailable):
                    if receiver is None:
                        await bus.publish("hangs", sent[1:])
                        receiver = await bus.receive("hangs", "group")
                    received += [each.id for each in await receiver.take(100, 5)]
        assert list(dict.fromkeys(received)) == ["0", "1", "2"]
        await bus.close()


class Kept(OnServer):
    """One that finds again what it had when it was killed."""

    count = 12_000
    kills_of_publisher, kills_of_receiver = 3, [2_000, 7_000]
    settles = 0.0
    answer_seconds = 0.0

    @pytest.mark.timeout(300)
    async def test_a_killed_broker_loses_nothing_that_it_confirmed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys, confirmed = 5, 0
        sent = [Message(str(number), f"k-{number % keys}", b"x" * 200) for number in range(self.count)]
        bus = await open_bus(self.server.url)
        if self.answer_seconds:
            monkeypatch.setattr(sys.modules[type(bus).__module__], "ANSWER_SECONDS", self.answer_seconds)
        await (await bus.receive("killed", "group")).close()
        await asyncio.sleep(self.settles)

        async def publish() -> None:
            nonlocal confirmed
            while confirmed < len(sent):
                try:
                    await bus.publish("killed", sent[confirmed : confirmed + 100])
                except Unavailable:
                    await asyncio.sleep(0.02)
                else:
                    confirmed += 100

        publishing = asyncio.create_task(publish())
        for kill in range(1, self.kills_of_publisher + 1):
            while confirmed < kill * self.count / (self.kills_of_publisher + 1):
                await asyncio.sleep(0.005)
            await in_thread(self.server.kill)
            await asyncio.sleep(0.05)
            await in_thread(self.server.start)
        await publishing
        received: list[Message] = []
        seen: set[str] = set()
        receiver: Receiver | None = None
        kills = iter(self.kills_of_receiver)
        next_kill = next(kills, None)
        while len(seen) < len(sent):
            try:
                receiver = receiver or await bus.receive("killed", "group")
                taken = await receiver.take(500, 5)
                await receiver.done()
            except Unavailable:
                receiver = None
                await asyncio.sleep(0.05)
                continue
            received += taken
            seen.update(message.id for message in taken)
            if next_kill is not None and len(seen) > next_kill:
                next_kill = next(kills, None)
                await in_thread(self.server.kill)
                await in_thread(self.server.start)
        await bus.close()
        assert seen == {message.id for message in sent}
        for key in range(keys):  # what is repeated may come again, but nothing comes before what it follows
            newest = -1
            for number in (int(each.id) for each in received if each.key == f"k-{key}"):
                assert number <= newest + keys or newest == -1
                newest = max(newest, number)

    async def test_a_topic_that_was_removed_is_made_again(self) -> None:
        bus, other = await open_bus(self.server.url), await open_bus(self.server.url)
        await bus.publish("removed", [Message(str(number), "k", b"") for number in range(3)])
        receiver = await other.receive("removed", "group")
        taken = 0
        while taken < 3:
            taken += len(await receiver.take(10, 5))
        await receiver.done()
        waiting = asyncio.create_task(receiver.take(10, 1))
        await asyncio.sleep(0.05)
        await self.remove(bus, "removed")
        with suppress(Unavailable):
            await waiting
        found: list[str] = []
        published = False
        async with asyncio.timeout(60):
            while not found:
                with suppress(Unavailable):
                    if not published:
                        await bus.publish("removed", [Message("new", "k", b"")])
                        published = True
                    receiver = await other.receive("removed", "group")
                    found = [each.id for each in await receiver.take(10, 0.5)]
        assert found == ["new"]
        await bus.close()
        await other.close()

    async def remove(self, bus: Any, topic: str) -> None:
        raise NotImplementedError


class TestNatsBus(Kept):
    scheme = "nats"
    answer_seconds = 1.0  # its client waits so long for an answer that a lost connection will not bring

    async def test_a_batch_that_the_server_has_forgotten_is_tried_again(self) -> None:
        bus = NatsBus(self.server.url)
        await bus.publish("batch", [Message("1", "k", b"")])
        client = await bus.client()
        headers = {"Nats-Batch-Id": "left", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
        answer = await client.request("refold.batch", b"", headers=headers)
        with pytest.raises(Unavailable):
            confirmed(answer, 2)
        await bus.close()

    async def remove(self, bus: Any, topic: str) -> None:
        await bus.ask(f"STREAM.DELETE.refold-{topic}", {})


class TestValkeyBus(Kept):
    scheme = "valkey"
    too_large = 0  # it takes half a gigabyte

    async def test_it_is_waited_for_longer_than_for_an_answer(self) -> None:
        bus = await open_bus(self.server.url)
        receiver = await bus.receive("idle", "group")
        assert await receiver.take(10, 5.5) == []  # the client's own patience is 5 s
        await bus.close()

    async def remove(self, bus: Any, topic: str) -> None:
        await bus._client.delete(f"refold:{topic}")


class TestRabbitBus(Kept):
    scheme = "amqp"

    async def remove(self, bus: Any, topic: str) -> None:
        await bus._channel.queue_delete(f"refold.{topic}")

    count = 5_000
    kills_of_publisher, kills_of_receiver = 1, [2_000]  # it takes its time to start
    settles = 1.5  # RabbitMQ 3.10 never opens the first stream of a server again that is killed in the same second


class TestKafkaBus(OnServer):
    """On a mock cluster: it cannot show what a kill costs, nor how topics are made, nor what replicas agree on."""

    scheme = "kafka"


del OnServer, Kept


@pytest.mark.parametrize("scheme", list(SERVERS))
async def test_one_that_is_away_says_so_soon_and_no_secrets(
    scheme: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await open_bus(f"{scheme}://user:geheim@127.0.0.1:9")
    monkeypatch.setattr(sys.modules[type(bus).__module__], "CONNECT_SECONDS", 0.5, raising=False)
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable) as caught:
            await bus.publish("topic", [Message("1", "k", b"")])
        assert "geheim" not in str(caught.value)
        with pytest.raises(Unavailable) as caught:
            await bus.receive("topic", "group")
        assert "geheim" not in str(caught.value)
    with suppress(Unavailable):
        await bus.close()
    assert "geheim" not in caplog.text


async def test_a_setting_that_kafka_has_not_is_refused_without_secrets() -> None:
    with pytest.raises(WiringError, match="no address of Kafka") as caught:
        await open_bus("kafka://user:geheim@localhost:9092?sasl.mechanisms=PLAIN&partitions=many")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "memory:", "http://x", str(uuid.UUID(int=0))])
def test_an_address_of_no_broker_is_refused(url: str) -> None:
    with pytest.raises(WiringError, match="is no broker"):
        check_bus_url(url)
