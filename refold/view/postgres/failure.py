"""What PostgreSQL and its driver raise for values that cannot be kept."""

import asyncpg

NOT_TEXT = {"22021", "22P05"}
"""What PostgreSQL calls a NUL in a text."""
TOO_MUCH = {"23502", "54000", "54001"}
"""A key that is missing, too long for an index, or a value nested too deeply."""
VALUES = (asyncpg.PostgresError, asyncpg.InterfaceError)
"""What may be raised for a value."""


def value_error(error: Exception) -> ValueError | None:
    """Return the error of what cannot be kept, if that is what the database or its driver says."""
    said = _not_kept_because(error)
    return ValueError(f"PostgreSQL cannot keep {said} ({error})") if said else None


def _not_kept_because(error: Exception) -> str | None:
    state: object = getattr(error, "sqlstate", None)
    if state in NOT_TEXT:
        return "a text that holds a NUL character"
    if state in TOO_MUCH or (isinstance(state, str) and state.startswith("22")):
        return "a row"
    # What the driver cannot send at all: it says no state, but that it is about a value.
    return "a value" if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError) else None
