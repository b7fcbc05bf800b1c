"""Functions by which `refold log transform` is tried."""

import os
import signal

from msgspec.structs import replace

from refold import Event, Recorded, StoredEvent

NUMBER = 7


def without_odd(event: StoredEvent) -> StoredEvent | None:
    return None if event.type == "Odd" else event


def doubled(recorded: Recorded[Event]) -> Event:
    event = recorded.event
    return replace(event, total=event.total * 2) if hasattr(event, "total") else event


def interrupting(event: StoredEvent) -> StoredEvent:
    if event.position == 3 and os.environ.get("INTERRUPT"):
        signal.raise_signal(signal.SIGINT)
    return event
