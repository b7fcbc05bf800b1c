"""The shop, wired: lists in, a running system out. No other file knows the app."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from examples.replay import BatchReplayed, MisfitFound, MisfitSummary
from examples.shop.catalogue import ProductListed, list_product
from examples.shop.checkout import (
    PAY_WITHIN,
    TRY_AGAIN,
    CheckoutEvent,
    accept_payment,
    cancel_unpaid,
    checking_out,
    decline_payment,
    dispatch_order,
    request_payment,
)
from examples.shop.contract import publish_cancellation, publish_order
from examples.shop.fulfilment import (
    deliver_order,
    fulfil,
    invoice_order,
    mark_unavailable,
    ship_order,
    start_processing,
)
from examples.shop.inventory import (
    InventoryRefused,
    InventoryReleased,
    InventoryReserved,
    Stock,
    StockReceived,
    receive_stock,
    release_inventory,
    reserve_inventory,
)
from examples.shop.mistakes import SIMULATED, FreightShare, VoucherGranted, grant_voucher, make_up
from examples.shop.orders import OrderEvent, OrderShipped, cancel_order, place_order
from examples.shop.payments import PaymentCaptured, approve_order, capture_payment
from examples.shop.provider import NoProvider, Provider, charging, refunding
from examples.shop.refunds import RefundEvent, mark_refunded, refund_order
from examples.shop.reviews import ReviewSubmitted, submit_review
from examples.shop.simulate import MoodyProvider
from examples.shop.views import (
    CatalogueEntry,
    CategorySummary,
    CustomerSummary,
    MonthSummary,
    OrderSummary,
    PaymentTypeSummary,
    Queue,
)
from refold import App, effect, kept
from refold.bus.api import Bus
from refold.bus.memory import MemoryBus
from refold.store.api import Clock, Store, utc_now

EVENTS = [
    ProductListed,
    OrderEvent,
    PaymentCaptured,
    StockReceived | InventoryReserved | InventoryRefused | InventoryReleased,
    ReviewSubmitted,
]

PROJECTIONS: list[Any] = [
    kept(OrderSummary, history=True),
    CustomerSummary,
    MonthSummary,
    PaymentTypeSummary,
    CategorySummary,
    CatalogueEntry,
    Queue,
    Stock,
    MisfitSummary,
]

REPLAYED: list[Callable[..., Any]] = [
    list_product,
    place_order,
    cancel_order,
    capture_payment,
    approve_order,
    receive_stock,
    reserve_inventory,
    release_inventory,
    start_processing,
    invoice_order,
    ship_order,
    deliver_order,
    mark_unavailable,
    submit_review,
]

SELLING: list[Callable[..., Any]] = [
    request_payment,
    decline_payment,
    accept_payment,
    cancel_unpaid,
    dispatch_order,
    refund_order,
    mark_refunded,
]


def make_app(url: str, projections: Sequence[Any] = PROJECTIONS, analytics: str | None = None) -> App:
    """Return the shop by itself, as a history is replayed into it: people pay, ship and deliver."""
    return App(
        url,
        events=[*EVENTS, MisfitFound | BatchReplayed],
        decisions=REPLAYED,
        processes=[fulfil],
        projections=projections,
        analytics=analytics,
    )


def make_live(
    store: str | Store,
    provider: Provider,
    bus: str | Bus,
    *,
    pay_within: timedelta = PAY_WITHIN,
    try_again: Sequence[timedelta] = TRY_AGAIN,
    patience: timedelta = timedelta(seconds=30),
    clock: Clock = utc_now,
) -> App:
    """Return the shop as it sells: it asks a provider for the money, in time, and tells other contexts what happens.

    `patience` is how long an answer of the provider may take.
    """
    seconds = patience.total_seconds()
    return App(
        store,
        name="shop",
        bus=bus,
        outbox=[publish_order, OrderShipped, publish_cancellation],
        events=[*EVENTS, CheckoutEvent, RefundEvent],
        decisions=[
            list_product,
            place_order,
            cancel_order,
            receive_stock,
            reserve_inventory,
            release_inventory,
            mark_unavailable,
            deliver_order,
            *SELLING,
        ],
        processes=[fulfil, checking_out(pay_within, try_again)],
        effects=[
            effect(charging(provider), seconds=seconds, from_start=True),
            effect(refunding(provider), seconds=seconds, from_start=True),
        ],
        projections=[OrderSummary, Stock],
        clock=clock,
    )


def make_demo(store: str, provider: Provider | None = None) -> App:
    """Return the shop of `make demo`: replayed first, and then selling, with all that may go wrong in it.

    What was replayed had its checkout long ago: the process sees to orders that are simulated.
    """
    asked = provider or MoodyProvider()
    times = (timedelta(seconds=8), timedelta(seconds=15))
    return App(
        store,
        name="shop",
        bus=MemoryBus(),
        outbox=[publish_order, OrderShipped, publish_cancellation],
        events=[*EVENTS, CheckoutEvent, RefundEvent, VoucherGranted, MisfitFound | BatchReplayed],
        decisions=[*REPLAYED, *SELLING, grant_voucher],
        processes=[fulfil, checking_out(timedelta(seconds=45), times, of=SIMULATED), make_up],
        effects=[effect(charging(asked), seconds=1.5), effect(refunding(asked), seconds=1.5)],
        projections=[*PROJECTIONS, FreightShare],
        index=True,
    )


def make_selling(store: str) -> App:
    """Return the shop as it sells, with nobody to pay or to tell, for `refold contract`."""
    return make_live(store, NoProvider(), MemoryBus())


STORE = os.environ.get("SHOP_STORE", "sqlite:///demo.db")

app = make_app(STORE)
