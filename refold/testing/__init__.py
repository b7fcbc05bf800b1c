"""Tests for what is built with Refold, and for what Refold is built on; needs `pip install refold[testing]`."""

import pytest

# Before they are imported, so that a failing rule of an installed package shows its values too.
pytest.register_assert_rewrite("refold.testing.bus_contract", "refold.testing.store", "refold.testing.view_contract")

from refold.testing.brokers import KafkaServer, NatsServer, RabbitServer, ValkeyServer  # noqa: E402
from refold.testing.bus_contract import BusContract  # noqa: E402
from refold.testing.clock import Clock  # noqa: E402
from refold.testing.given import given  # noqa: E402
from refold.testing.store.fixture import Failpoint, StoreFixture  # noqa: E402
from refold.testing.store_contract import StoreContract  # noqa: E402
from refold.testing.strategies import events_of  # noqa: E402
from refold.testing.upcasting import check_upcasters, upcast  # noqa: E402
from refold.testing.view_contract import ViewContract  # noqa: E402

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
