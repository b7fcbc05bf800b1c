"""Billing, wired: it has a log of its own, and lives from what the shop publishes."""

from examples.billing.accounts import Account, AccountEvent, close_account, issue_invoice
from examples.billing.shop import SHOP
from refold import App
from refold.bus.api import Bus
from refold.store.api import Clock, Store, utc_now


def make_app(store: str | Store, bus: str | Bus, *, clock: Clock = utc_now) -> App:
    return App(
        store,
        name="billing",
        bus=bus,
        events=AccountEvent,
        decisions=[issue_invoice, close_account],
        inbox=[SHOP],
        projections=[Account],
        clock=clock,
    )
