"""Notifications, wired: it has a log of its own, and lives from what the shop publishes."""

from datetime import timedelta

from examples.notifications.mails import Correspondence, MailEvent, Post, mark_mail_sent, request_mail, sending
from examples.notifications.shop import SHOP
from refold import App, effect
from refold.bus.api import Bus
from refold.store.api import Clock, Store, utc_now


def make_app(
    store: str | Store,
    bus: str | Bus,
    post: Post,
    *,
    patience: timedelta = timedelta(seconds=30),
    clock: Clock = utc_now,
) -> App:
    """Return the app; `patience` is how long the post may take for a mail."""
    return App(
        store,
        name="notifications",
        bus=bus,
        events=MailEvent,
        decisions=[request_mail, mark_mail_sent],
        inbox=[SHOP],
        effects=[effect(sending(post), seconds=patience.total_seconds(), from_start=True)],
        projections=[Correspondence],
        clock=clock,
    )
