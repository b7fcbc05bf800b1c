"""From an address to a broker; its client is imported only when it is asked for."""

from collections.abc import Callable
from urllib.parse import urlsplit

from refold.bus.api import Bus
from refold.errors import WiringError, hidden, parts_of

BROKERS = {"nats": "nats", "valkey": "valkey", "amqp": "rabbitmq", "amqps": "rabbitmq", "kafka": "kafka"}
"""What an address may begin with, and what its client is installed with."""


def check_bus_url(url: str) -> None:
    """Refuse an address that `open_bus` could not open, without opening it."""
    scheme = parts_of(url).scheme
    if scheme not in BROKERS:
        raise WiringError(
            f"{scheme or hidden(url)!r} is no broker: write 'nats://localhost:4222', 'amqp://localhost:5672' for "
            "RabbitMQ, 'kafka://localhost:9092', 'valkey://localhost:6379', or give a bus, such as MemoryBus()"
        )
    try:
        _import(scheme)
    except ModuleNotFoundError as error:
        raise WiringError(f"this broker needs a client ({error}): pip install refold[{BROKERS[scheme]}]") from None


async def open_bus(url: str) -> Bus:
    """Return the broker at an address; it is connected to when it is first used."""
    check_bus_url(url)
    return _import(urlsplit(url).scheme)(url)


def _import(scheme: str) -> Callable[[str], Bus]:
    if scheme == "nats":
        from refold.bus.nats import NatsBus

        return NatsBus
    if scheme in ("amqp", "amqps"):
        from refold.bus.rabbitmq import RabbitBus

        return RabbitBus
    if scheme == "kafka":
        from refold.bus.kafka import KafkaBus

        return KafkaBus
    from refold.bus.valkey import ValkeyBus

    return ValkeyBus
