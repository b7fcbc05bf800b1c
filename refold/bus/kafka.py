"""Kafka: messages in the partition of their key, and groups that read all partitions without being members of anything.

Who receives for a group assigns itself every partition, and begins where the group's offsets say. So taking over needs
no rebalance, and waits for no session to time out. With the offsets is kept who the group's last receiver is: another
one that comes to put its own there finds that it was replaced.

The producer is idempotent, and waits for all replicas in sync. When a batch breaks off, the producer is thrown away
with all that it has not sent, so that nothing of a key comes after a gap. Transactions are not used: a log needs none.
Kafka does not wait for its disks; what counts is `min.insync.replicas`. It forgets the offsets of a group that was
away for longer than `offsets.retention.minutes`, a week; the group then begins with the oldest again.

The address may have several hosts, and settings of librdkafka: `kafka://one:9092,two:9092?security.protocol=ssl`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from refold.bus.api import Message, checked
from refold.errors import NotPublished, Unavailable, WiringError

PARTITIONS = 6
"""Of a topic that is made here. If it is changed later, keys change their partition, and lose their order once."""
CONNECT_SECONDS, ANSWER_SECONDS, SLICE_SECONDS, TEND_SECONDS = 2.0, 5.0, 0.1, 600.0
REFUSED = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
LOG = logging.getLogger("refold.bus.kafka")
T = TypeVar("T")


class KafkaBus:
    """A cluster of Kafka."""

    def __init__(self, url: str) -> None:
        self._settings = _settings(url)
        self._thread = ThreadPoolExecutor(1, "refold-kafka")
        """Where the client waits, so that the loop does not; whoever publishes takes turns here."""
        self._producer: Producer | None = None
        self._topics: dict[str, int] = {}
        self._receivers: list[KafkaReceiver] = []
        self._closed = False

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish messages."""
        name = _name(topic)
        if messages:
            await _in(self._thread, lambda: self._publish(name, messages))

    async def receive(self, topic: str, group: str) -> "KafkaReceiver":
        """Become the group's last receiver, and read from where it has come to."""
        name, group_id = _name(topic), f"{_name(topic)}.{checked(group, 'group')}"
        count = await _in(self._thread, lambda: self._counted(name))
        receiver = KafkaReceiver({**self._settings, "group.id": group_id}, name, count)
        self._receivers.append(receiver)
        await receiver.begin()
        return receiver

    async def close(self) -> None:
        """Let go of the cluster."""
        receivers, self._receivers = self._receivers, []
        for receiver in receivers:
            await receiver.close()
        if not self._closed:
            self._closed = True
            await _in(self._thread, self._drop)
            self._thread.shutdown(wait=False)

    def _counted(self, name: str) -> int:
        try:
            return self._ready(name)
        except BaseException:
            self._drop()
            raise

    def _publish(self, name: str, messages: Sequence[Message]) -> None:
        try:
            self._ready(name)
            self._deliver(self._made(), name, messages)
        except BaseException:
            self._drop()
            raise

    def _deliver(self, producer: Producer, name: str, messages: Sequence[Message]) -> None:
        failed, left = list[KafkaError](), 0

        def came(error: KafkaError | None, _: object) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                failed.append(error)

        try:
            for message in messages:
                _produce(producer, name, message, came)
                left += 1
        except KafkaException:
            producer.flush(ANSWER_SECONDS)  # what came before the one that is refused
            raise
        end = time.monotonic() + ANSWER_SECONDS
        while left and not failed:
            before = left
            producer.poll(SLICE_SECONDS)
            if left < before:
                end = time.monotonic() + ANSWER_SECONDS
            elif time.monotonic() > end:
                raise _away("it does not confirm messages")
        if failed:
            raise KafkaException(failed[0])

    def _ready(self, name: str) -> int:
        """Make a topic if there is none; return how many partitions it has."""
        if name not in self._topics:
            producer = self._made()
            known = producer.list_topics(timeout=CONNECT_SECONDS)
            # A cluster that has no controller makes topics when it is asked for them.
            if name not in known.topics and known.controller_id in known.brokers:
                self._make(name)
            self._topics[name] = self._count(producer, name)
        return self._topics[name]

    def _count(self, producer: Producer, name: str) -> int:
        end = time.monotonic() + ANSWER_SECONDS
        while True:
            found = producer.list_topics(name, ANSWER_SECONDS).topics[name].partitions
            if found and all(each.leader >= 0 for each in found.values()):
                return len(found)
            if time.monotonic() > end:
                raise _away(f"{name} has no leaders")
            time.sleep(SLICE_SECONDS)

    def _make(self, name: str) -> None:
        admin = AdminClient(dict(self._settings))
        try:
            admin.create_topics([NewTopic(name, PARTITIONS, -1)])[name].result(2 * ANSWER_SECONDS)
        except KafkaException as error:
            if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _made(self) -> Producer:
        if self._producer is None:
            more = {"enable.idempotence": True, "enable.gapless.guarantee": True, "acks": "all"}
            # As clients of Java have it; a key that is empty is a key.
            more |= {"partitioner": "murmur2_random", "linger.ms": 1}
            self._producer = Producer({**self._settings, **more}, logger=LOG)
        return self._producer

    def _drop(self) -> None:
        """Throw the producer away, and what it has not sent; what it knows of topics may be wrong, too."""
        producer, self._producer, self._topics = self._producer, None, {}
        if producer is not None:
            producer.purge()


class KafkaReceiver:
    """A consumer that reads every partition of a topic."""

    def __init__(self, settings: dict[str, Any], name: str, count: int) -> None:
        self._thread = ThreadPoolExecutor(1, "refold-kafka-receiver")
        self._name = name
        self._count = count
        self._me = uuid.uuid4().hex
        self._reached: dict[int, int] = {}
        """The next offset of each partition."""
        self._done: dict[int, int] = {}
        self._tended = time.monotonic()
        self._closing = Event()
        self._ended: str | None = None
        more = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "error_cb": self._fell}
        self._consumer = Consumer({**settings, **more}, logger=LOG)

    async def begin(self) -> None:
        """Become the last receiver of the group."""
        await _in(self._thread, self._begin)

    async def take(self, most: int, seconds: float) -> Sequence[Message]:
        """Read messages."""
        self._check()
        try:
            records = await _in(self._thread, lambda: self._take(most, seconds))
        except asyncio.CancelledError:
            # What the thread reads now is given to nobody, and so must not be said to be done.
            self._ended = "its last call was cancelled"
            raise
        for each in records:
            self._reached[cast(int, each.partition())] = cast(int, each.offset()) + 1
        return [_message(each) for each in records]

    async def done(self) -> None:
        """Commit how far this one has come, unless another one has taken over."""
        self._check()
        if self._reached != self._done:
            reached = dict(self._reached)
            await _in(self._thread, lambda: self._commit(reached))
            self._done = reached

    async def close(self) -> None:
        """Stop reading."""
        if not self._closing.is_set():
            self._closing.set()
            self._ended = "it was closed"
            await _in(self._thread, self._consumer.close)
            self._thread.shutdown(wait=False)

    def _begin(self) -> None:
        for each in self._committed():
            offset = each.offset
            if offset < 0:
                edges = self._consumer.get_watermark_offsets(TopicPartition(self._name, each.partition), ANSWER_SECONDS)
                offset = edges[0] if edges else 0
            self._done[each.partition] = offset
        self._reached = dict(self._done)
        self._put(self._done)
        starts = [TopicPartition(self._name, partition, offset) for partition, offset in self._done.items()]
        self._consumer.assign(starts)

    def _take(self, most: int, seconds: float) -> list[Any]:
        end = time.monotonic() + seconds
        while not self._closing.is_set():
            first = self._consumer.poll(max(0.0, min(SLICE_SECONDS, end - time.monotonic())))
            if self._ended:
                raise _away(self._ended)
            if first is not None:
                found = [first, *(self._consumer.consume(most - 1, 0) if most > 1 else ())]
                for each in found:
                    if error := each.error():
                        raise KafkaException(error)
                return found
            self._tend()
            if time.monotonic() >= end:
                break
        return []

    def _commit(self, offsets: dict[int, int]) -> None:
        if any(each.metadata != self._me for each in self._committed()):
            self._ended = "another one has taken over"
            raise _away(self._ended)
        self._put(offsets)

    def _committed(self) -> list[TopicPartition]:
        partitions = [TopicPartition(self._name, partition) for partition in range(self._count)]
        found = self._consumer.committed(partitions, ANSWER_SECONDS)
        for each in found:
            if each.error:
                raise KafkaException(each.error)
        return found

    def _put(self, offsets: dict[int, int]) -> None:
        """Commit all offsets, also those that are as they were: each is kept for so long since it was committed."""
        asked = [TopicPartition(self._name, each, offset, metadata=self._me) for each, offset in offsets.items()]
        for each in self._consumer.commit(offsets=asked, asynchronous=False) or ():
            if each.error:
                raise KafkaException(each.error)
        self._tended = time.monotonic()

    def _tend(self) -> None:
        """Keep the offsets of a group to which nothing comes, and look whether there are more partitions now."""
        if time.monotonic() > self._tended + TEND_SECONDS:
            if len(self._consumer.list_topics(self._name, ANSWER_SECONDS).topics[self._name].partitions) != self._count:
                self._ended = "the number of partitions has changed"
                raise _away(self._ended)
            self._commit(self._done)

    def _fell(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            self._ended = error.name()

    def _check(self) -> None:
        if self._ended:
            raise _away(self._ended)


def _produce(producer: Producer, name: str, message: Message, came: Callable[..., None]) -> None:
    """Hand a message to the client; wait while it has as many as it may."""
    headers: list[tuple[str, str | bytes | None]] = [("refold-id", message.id.encode())]
    headers += [(each, value.encode()) for each, value in message.headers.items()]
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            producer.produce(name, message.body, message.key.encode(), headers=headers, on_delivery=came)
        except BufferError:
            if not producer.poll(SLICE_SECONDS) and time.monotonic() > end:
                raise _away("it does not confirm messages") from None
        else:
            producer.poll(0)
            return


def _message(record: Any) -> Message:
    """Read a record; one that others have sent may have anything in its key and headers, or nothing."""
    found: list[tuple[str, bytes | None]] = record.headers() or []
    headers = {name: (value or b"").decode(errors="replace") for name, value in found}
    key = (record.key() or b"").decode(errors="replace")
    return Message(headers.pop("refold-id", ""), key, record.value() or b"", headers)


def _settings(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    found: dict[str, Any] = {"bootstrap.servers": hosts, "log_level": 3, "client.id": "refold"}
    if user:
        name, _, password = user.partition(":")
        found |= {"sasl.username": unquote(name), "sasl.password": unquote(password)}
        found |= {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN"}
    found |= dict(parse_qsl(parts.query))
    try:
        AdminClient(dict(found))
    except KafkaException as error:
        said = error.args[0].str()
        if "sasl.password" in said:  # it may show it
            said = "a setting is wrong"
        raise WiringError(f"this is no address of Kafka: {said}; write 'kafka://host:9092'") from None
    return found


def _name(topic: str) -> str:
    return f"refold.{checked(topic, 'topic')}"


def _code(error: KafkaException) -> int:
    return cast(KafkaError, error.args[0]).code()


def _away(why: str) -> Unavailable:
    return Unavailable(f"Kafka is not available: {why}")


async def _in(thread: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    """Run something in a thread; turn the client's errors into ours."""
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function)
    except KafkaException as error:
        said = cast(KafkaError, error.args[0])
        if said.code() in REFUSED:
            raise NotPublished(f"Kafka refuses: {said.name()}") from None
        raise _away(said.name()) from None
    except (RuntimeError, TimeoutError) as error:
        raise _away(str(error) or "it does not answer") from None
