"""Every error that Refold raises, on one page.

    RefoldError
    ├── WiringError            the program is put together wrongly; raised before it runs
    │   └── MissingCapability  the store cannot do what the program asks of it
    ├── Rejected               the domain says no; subclass it for each reason
    ├── Conflict               an append condition did not hold
    ├── InvalidQuery           a query, filter or order that makes no sense
    ├── InvalidBody            what somebody wrote as JSON does not fit
    ├── InvalidLock            a contract's lock that is missing, damaged or newer than this Refold
    ├── InvalidEvent           an event that no log may hold
    │   └── TooLarge           … because it is over a stated limit
    ├── UnreadableEvent        the log holds an event that this program cannot read
    │   ├── UnknownEvent       … of a type or version that it does not know
    │   └── UndecodableEvent   … whose data does not fit its type
    ├── AppendIdReused         an append id came again with other events
    ├── PositionAhead          a position beyond the head: it belongs to another log
    ├── SubscriptionFailed     a projection or process stopped
    ├── NotKept                rows of a view that are not there, or not yet
    ├── Unavailable            a broker, or what an effect needs, is away for now; it is tried again
    ├── NotPublished           a broker refuses what it should take
    ├── WaitTimeout            a view did not reach a position in time
    └── StoreError             the storage said no
        ├── StoreBusy          another program holds the file
        ├── StoreFull          no space left
        ├── StoreReadOnly      the file or its folder cannot be written
        ├── StoreClosed        used after it was closed
        ├── StoreDamaged       the file is damaged, or the disk failed
        ├── NotAStore          the file or address is not a Refold log
        ├── StoreTooNew        written by a newer Refold
        ├── StoreTooOld        written by an older Refold, where it may not be upgraded
        └── UnsafeDriver       a driver version known to lose data

The docstring of a class is its message where none is given; `code` is stable and safe to match on.
"""

import inspect
import re
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

SECRET_NAMES = ("pass", "secret", "token")
"""What is part of the names of parameters of an address whose values are nobody else's business."""
SECRETS = re.compile(
    rf"([?&;][\w.-]{{0,40}}(?i:{'|'.join(SECRET_NAMES)})[\w.-]{{0,40}}=)[^\s&#]+"
    # A credential of HTTP is no plain word, as in "basic authentication", unless it stands in the header.
    r"|((?i:authorization)\W{1,5}(?i:bearer|basic)\s+)\S+"
    r"|(\b(?i:bearer|basic)\s+)(?=[\d_=+]|[\w.~+/=-]+[A-Z\d_=+])[\w.~+/=-]{8,}"
)
"""Parameters of addresses, and credentials of HTTP, each behind what tells that it is one."""
ADDRESS = re.compile(r"://\S+")
USER = re.compile(r"://(?!(?:localhost|\[[\da-fA-F:.]+\]|[\w-]+(?:\.[\w-]+)+):\d+[/?#])[^\s:/@]*:")
"""Who a password belongs to; what looks like a host and its port is nobody."""


class RefoldError(Exception):
    """Something in Refold went wrong."""

    code: ClassVar[str] = "REFOLD"

    def __init__(self, message: str | None = None, **data: Any) -> None:
        super().__init__(message or (inspect.getdoc(type(self)) or type(self).__name__).split("\n\n")[0])
        self.data = data


class WiringError(RefoldError):
    """The program is put together wrongly."""

    code = "WIRING"


class MissingCapability(WiringError):
    """The store cannot do what the program asks of it."""

    code = "MISSING_CAPABILITY"


class Rejected(RefoldError):
    """The command was refused by the domain."""

    code = "REJECTED"


class Conflict(RefoldError):
    """Events that the decision did not see were appended in the meantime."""

    code = "CONFLICT"


class InvalidQuery(RefoldError):
    """This query makes no sense."""

    code = "INVALID_QUERY"


class InvalidBody(RefoldError):
    """What was written does not fit; `errors` says where."""

    code = "INVALID_BODY"


class InvalidLock(RefoldError):
    """This is no lock of a contract that could be read."""

    code = "INVALID_LOCK"


class InvalidEvent(RefoldError):
    """No log may hold this event."""

    code = "INVALID_EVENT"


class TooLarge(InvalidEvent):
    """Over a stated limit; nothing was written."""

    code = "TOO_LARGE"


class UnreadableEvent(RefoldError):
    """The log holds an event that this program cannot read."""

    code = "UNREADABLE_EVENT"


class UnknownEvent(UnreadableEvent):
    """The log holds an event of a type or version that this program does not know."""

    code = "UNKNOWN_EVENT"


class UndecodableEvent(UnreadableEvent):
    """The log holds an event whose data does not fit its type."""

    code = "UNDECODABLE_EVENT"


class AppendIdReused(RefoldError):
    """This append id was used before, with other events; nothing was written."""

    code = "APPEND_ID_REUSED"


class PositionAhead(RefoldError):
    """This position is beyond the head of the log: it was taken from another log, or the log was restored."""

    code = "POSITION_AHEAD"


class SubscriptionFailed(RefoldError):
    """A projection or process stopped."""

    code = "SUBSCRIPTION_FAILED"


class NotKept(RefoldError):
    """The rows of this view are not kept, or not yet."""

    code = "NOT_KEPT"


class Unavailable(RefoldError):
    """What is needed is not available for now; it is tried again."""

    code = "UNAVAILABLE"


class NotPublished(RefoldError):
    """The broker refuses a message, or all."""

    code = "NOT_PUBLISHED"


class WaitTimeout(RefoldError):
    """The position was not reached in time."""

    code = "WAIT_TIMEOUT"


class StoreError(RefoldError):
    """The store could not do its work."""

    code = "STORE"


class StoreBusy(StoreError):
    """Another program holds the store's file locked; nothing was written. Close it, or try again."""

    code = "STORE_BUSY"


class StoreFull(StoreError):
    """No space is left for the store; nothing was written. Free some and try again: the store stays usable."""

    code = "STORE_FULL"


class StoreReadOnly(StoreError):
    """The store's file or folder cannot be written; nothing was written."""

    code = "STORE_READ_ONLY"


class StoreClosed(StoreError):
    """The store was used after it was closed, or before it was opened."""

    code = "STORE_CLOSED"


class StoreDamaged(StoreError):
    """The store's file is damaged, or its disk failed. Stop, and restore from a backup."""

    code = "STORE_DAMAGED"


class NotAStore(StoreError):
    """This file or address does not hold a Refold log."""

    code = "NOT_A_STORE"


class StoreTooNew(StoreError):
    """This store was written by a newer Refold. Upgrade Refold to open it."""

    code = "STORE_TOO_NEW"


class StoreTooOld(StoreError):
    """This store was written by an older Refold. `refold store migrate` upgrades it, as every app does that runs."""

    code = "STORE_TOO_OLD"


class UnsafeDriver(StoreError):
    """This version of the database driver is known to lose data."""

    code = "UNSAFE_DRIVER"


def hidden(text: str) -> str:
    """Return an address, or a text with addresses in it, as others may be told it: without passwords and tokens."""
    text = ADDRESS.sub(lambda found: _without_password(found[0]), text)
    return SECRETS.sub(lambda found: f"{next(each for each in found.groups() if each)}***", text)


def _without_password(address: str) -> str:
    """Leave a password out: it ends at the last @, since it may hold others, and slashes."""
    before, at, behind = address.rpartition("@")
    user = USER.search(before)
    return f"{before[: user.end()]}***{at}{behind}" if user else address


def parts_of(address: str) -> SplitResult:
    """Take an address apart; raise `WiringError` where that cannot be done, or a port is none."""
    try:
        parts = urlsplit(address)
        for host in parts.netloc.rpartition("@")[2].split(","):  # a server may have several
            _ = urlsplit(f"//{host}").port
    except ValueError as error:
        # What it quotes may be part of a password, as if one with a slash in it were a port.
        why = "in a password, / is written %2F" if "@" in address and "'" in str(error) else error
        raise WiringError(f"{hidden(address)!r} is no address: {why}") from None
    return parts
