"""Timers: commands that a process asks for now, and that are to be executed later."""

from datetime import UTC, datetime, timedelta

from refold.errors import WiringError
from refold.model.message import Command


class Later(Command):
    """Asks that a command be executed at a time; see `later` and `at`."""

    command: Command
    after: timedelta | None = None
    """Counted from when the event occurred that the process reacts to."""
    when: datetime | None = None
    """In UTC; if `after` is not given."""
    name: str = ""
    """By which it can be set anew, or cancelled; empty if it cannot."""


class Cancel(Command):
    """Asks that a timer be forgotten; see `cancel`."""

    name: str


def later(command: Command, *, after: timedelta, name: str = "") -> Later:
    """Ask for a command some time after the event occurred: `later(CancelUnpaid("o-1"), after=timedelta(minutes=15))`.

    What a process yields so is kept with its checkpoint, and executed once in effect, by whichever process runs it
    then. Of one `name` a process has one timer: a later one takes its place, and `cancel(name)` forgets it.
    """
    return Later(_a_command(command), after=after, name=name)


def at(command: Command, when: datetime, *, name: str = "") -> Later:
    """Ask for a command at a time, which has a zone; at once if it has passed. Otherwise as `later`."""
    if when.utcoffset() is None:
        raise WiringError(f"at({command!r}, {when!r}) has no time zone: use datetime(…, tzinfo=UTC)")
    return Later(_a_command(command), when=when.astimezone(UTC), name=name)


def cancel(name: str) -> Cancel:
    """Ask that this process's timer of a name be forgotten; nothing happens if there is none, or none any more."""
    if not name:
        raise WiringError("cancel('') names no timer: give it the name that its `later` or `at` has")
    return Cancel(name)


def _a_command(command: Command) -> Command:
    if not isinstance(command, Command) or isinstance(command, Later | Cancel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WiringError(f"{command!r} is no command that could be executed later")
    return command
