"""Tests for what is built with Refold, and for what Refold is built on; needs `pip install refold[testing]`."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refold.testing.brokers import KafkaServer, NatsServer, RabbitServer, ValkeyServer
from refold.testing.clock import Clock
from refold.testing.given import given

if TYPE_CHECKING:
    from refold.testing.bus_contract import BusContract
    from refold.testing.store.fixture import Failpoint, StoreFixture
    from refold.testing.store_contract import StoreContract
    from refold.testing.strategies import events_of
    from refold.testing.upcasting import check_upcasters, upcast
    from refold.testing.view_contract import ViewContract

if "pytest" in sys.modules:  # before they are imported, so that a failing rule of an installed package shows its values
    sys.modules["pytest"].register_assert_rewrite(
        "refold.testing.bus_contract", "refold.testing.store", "refold.testing.view_contract"
    )

WHERE = {
    "BusContract": "bus_contract",
    "Failpoint": "store.fixture",
    "StoreContract": "store_contract",
    "StoreFixture": "store.fixture",
    "ViewContract": "view_contract",
    "check_upcasters": "upcasting",
    "events_of": "strategies",
    "upcast": "upcasting",
}
"""What is imported when it is asked for: pytest and Hypothesis would keep each process that a test starts waiting."""

__all__ = [
    "BusContract",
    "Clock",
    "Failpoint",
    "KafkaServer",
    "NatsServer",
    "RabbitServer",
    "StoreContract",
    "StoreFixture",
    "ValkeyServer",
    "ViewContract",
    "check_upcasters",
    "events_of",
    "given",
    "upcast",
]


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{WHERE[name]}"), name)
    return value
