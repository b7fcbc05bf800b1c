"""What PostgreSQL and its driver raise: what is worth another try, and the rest as errors that say what to do."""

import asyncpg

from refold.errors import (
    NotAStore,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)

DRIVER = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that the driver raises."""
LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)
"""The connection is gone, and with it the answer: an internal error too is what the driver makes of a broken answer."""

_LOST_STATES = {
    "57P01",  # the server shuts down, or an administrator has ended the session
    "57P02",  # a process of the server died
    "57P03",  # the server starts
    "57P05",  # idle for too long
    "25006",  # read-only: this is not the primary any more
    "53300",  # too many connections
}
_RETRY_STATES = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "40003",  # statement completion unknown
    "55P03",  # a lock was not to be had
    "57014",  # cancelled by an administrator or a time limit
}
_TRANSLATIONS: dict[str, type[StoreError]] = {
    "53100": StoreFull,
    "53200": StoreFull,
    "54023": StoreError,
    "42501": StoreReadOnly,
    "25006": StoreReadOnly,
    "XX001": StoreDamaged,
    "XX002": StoreDamaged,
    "58030": StoreDamaged,
    "3F000": NotAStore,
    "42P01": NotAStore,
    "42883": NotAStore,
    "3D000": NotAStore,
    "55P03": StoreBusy,
}


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection that raised this is of no more use."""
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # a ValueError too is an argument that cannot be sent
    return isinstance(error, LOST) or _state(error) in _LOST_STATES


def is_passing(error: BaseException) -> bool:
    """Tell whether the same may succeed when it is tried again, on another connection or on this one."""
    return is_lost(error) or _state(error) in _RETRY_STATES


def translated(error: BaseException, where: object) -> StoreError:
    """Return the `StoreError` that says it."""
    kind = _TRANSLATIONS.get(_state(error), StoreError)
    said = f"{kind.__doc__} ({error})" if kind is not StoreError else str(error) or type(error).__name__
    made = kind(f"{where}: {said}", sqlstate=_state(error) or None)
    made.__cause__ = error
    return made


def _state(error: BaseException) -> str:
    state: object = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""
