"""Ids for events and commands: UUIDs of version 7 (RFC 9562), which sort by time."""

import os
import threading
import time
from datetime import UTC, datetime
from random import Random
from uuid import UUID

_lock = threading.Lock()
_random = Random()  # noqa: S311 - ids are unique, not secret; asking the kernel each time costs more than an append
_last = 0
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a new id; later ones of a process sort after earlier ones, also if the clock steps back.

    The 74 bits that version 7 leaves after the milliseconds hold a counter within the millisecond (42 bits, started
    at random) and 32 random bits.
    """
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000 << 42
        _last = max(_last + 1, now | _random.getrandbits(41))
        stamp = _last
        noise = _random.getrandbits(32)
    high = stamp >> 30 & 0xFFF
    low = 0b10 << 62 | (stamp & 0x3FFF_FFFF) << 32 | noise
    text = f"{stamp >> 42:012x}7{high:03x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_of(id: str) -> datetime | None:
    """Return when an id was made, if it is one of version 7."""
    try:
        found = UUID(id)
        return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else None
    except (ValueError, OverflowError, OSError):
        return None
