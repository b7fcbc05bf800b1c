"""What is wrong, why, and what to do next: a table of rules over how an app stands.

Each rule looks at the same figures that `refold projection list` and the metrics show, and asks nothing more.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from refold.errors import RefoldError
from refold.runtime.operate import Operations
from refold.runtime.standing import NOBODY, STALLED_SECONDS, Standing
from refold.runtime.waiting import Orphaned, Pending

Severity: TypeAlias = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Events are not handled or not stored; somebody has to act some time; it is good to know."""
GRACE_SECONDS = 5.0
"""How long something may be without an owner: others take over within seconds."""


class Diagnosis(Struct, frozen=True):
    """Something that is wrong."""

    id: str
    """Stable, and safe to match on."""
    severity: Severity
    title: str
    cause: str
    command: str
    """What to do, or to look at, next."""
    about: str = ""
    """The projection, process, outbox or inbox; empty if it is the log."""


class Seen(Struct, frozen=True):
    """How an app stands, as far as rules look at it."""

    standing: tuple[Standing, ...] = ()
    stopped: Mapping[str, str] = {}
    """What this program runs, and has stopped for good, each with why."""
    pending: tuple[Pending, ...] = ()
    """The timers of each process that has any."""
    orphaned: tuple[Orphaned, ...] = ()
    """Who is not part of the app any more, and has left something behind."""
    unreadable: str = ""
    """Why the log cannot be read; empty if it can."""


class Finding(Struct, frozen=True):
    """What a rule has found, of what, and why."""

    about: str
    cause: str
    more: str = ""
    """What belongs to the end of the command, besides the app."""


class Rule(Struct, frozen=True):
    """Something that can be wrong."""

    id: str
    severity: Severity
    title: str
    """Has `{about}` where the name belongs."""
    command: str
    """Has `{app}`, and `{more}` if the name of something belongs there."""
    find: Callable[[Seen], Iterator[Finding]]


async def diagnose(operations: Operations, app: str = "module:app") -> list[Diagnosis]:
    """Return what is wrong, the worst first; `app` is how the command line names this app."""
    return judged(await seen(operations), app)


async def seen(operations: Operations) -> Seen:
    """Look at how an app stands; a log that cannot be read is one of the things to be seen."""
    stopped = {name.partition("@")[0]: why for name, why in operations.stopped().items()}
    try:
        standing, pending = await operations.standing(), await operations.pending()
        return Seen(tuple(standing), stopped, tuple(pending), tuple(await operations.orphaned()))
    except RefoldError as error:
        return Seen(stopped=stopped, unreadable=f"{error.code}: {error}")


def judged(found: Seen, app: str = "module:app") -> list[Diagnosis]:
    """Return what the rules say of what was seen, the worst first."""
    diagnoses = [
        Diagnosis(
            rule.id,
            rule.severity,
            rule.title.format(about=each.about),
            each.cause,
            rule.command.format(app=app, more=each.more or each.about),
            each.about,
        )
        for rule in RULES
        for each in rule.find(found)
    ]
    return sorted(diagnoses, key=lambda each: SEVERITIES.index(each.severity))


def _unreadable(found: Seen) -> Iterator[Finding]:
    if found.unreadable:
        yield Finding("", found.unreadable)


def _stopped(found: Seen) -> Iterator[Finding]:
    for each in _read(found):
        if each.name in found.stopped or (each.trouble and not each.owner and not _runs_late(each)):
            yield Finding(each.name, found.stopped.get(each.name, each.trouble))


def _not_run(found: Seen) -> Iterator[Finding]:
    for each in _read(found):
        if not each.owner and each.name not in found.stopped and each.seconds_behind > GRACE_SECONDS:
            yield Finding(each.name, f"no process owns it; {_how_far(each)}")


def _stalled(found: Seen) -> Iterator[Finding]:
    for each in _read(found):
        if each.owner and each.trouble and each.name not in found.stopped:
            yield Finding(each.name, f"{each.trouble}; {each.owner} runs it, and {_how_far(each)}")


def _behind(found: Seen) -> Iterator[Finding]:
    for each in _read(found):
        if each.owner and not each.trouble and each.seconds_behind > STALLED_SECONDS:
            yield Finding(each.name, f"events come faster than it handles them: {_how_far(each)}")


def _ahead(found: Seen) -> Iterator[Finding]:
    for each in found.standing:
        if each.position > each.head:
            yield Finding(
                each.name,
                f"it has handled position {each.position:,}, and the log ends at {each.head:,}: an older copy of the "
                "log was restored",
            )


def _parked(found: Seen) -> Iterator[Finding]:
    for each in found.standing:
        if each.parked:
            yield Finding(
                each.name,
                f"{each.parked:,} of its events failed, the first {_span(each.oldest_parked_seconds)} ago; later ones "
                "of the same keys wait behind",
            )


def _overdue(found: Seen) -> Iterator[Finding]:
    for each in found.pending:
        if each.stuck:
            cause = f": {each.error}" if each.error else ""
            late = f"{each.stuck:,} of its {each.timers:,} timers should have been executed by now"
            yield Finding(each.process, late + cause)


def _orphaned(found: Seen) -> Iterator[Finding]:
    for each in found.orphaned:
        timers = f"{each.timers:,} timer{'' if each.timers == 1 else 's'}" if each.timers else ""
        parked = f"{each.parked:,} parked event{'' if each.parked == 1 else 's'}" if each.parked else ""
        yield Finding(
            each.name,
            f"{' and '.join(filter(None, (timers, parked)))} of it are left, and nobody comes to them. If it was "
            "renamed, give it its former name again, or run both until nothing is left; if it was removed, add it "
            "again until they are done or given up",
        )


def _held(found: Seen) -> Iterator[Finding]:
    for each in found.standing:
        if each.is_held and (compared := each.comparison) is not None:
            differ = compared.different + compared.only_old + compared.only_new
            rows = f"{differ:,} rows differ from those that are read" if differ else "its rows are those that are read"
            yield Finding(each.name, f"version {each.version} is built and waits to be read; {rows}")


def _unbuilt(found: Seen) -> Iterator[Finding]:
    for each in found.standing:
        if each.status == "building" and not each.owner and each.comparison is None and each.events_behind:
            yield Finding(each.name, f"version {each.version} is built to position {each.position:,}; nobody goes on")


RULES: tuple[Rule, ...] = (
    Rule("LOG_UNREADABLE", "critical", "The log cannot be read", "refold check {app}", _unreadable),
    Rule("AHEAD_OF_LOG", "critical", "{about} is ahead of the log", "refold projection list {app}", _ahead),
    Rule("STOPPED", "critical", "{about} has stopped", "refold run {app}", _stopped),
    Rule("NOT_RUN", "critical", "Nobody runs {about}", "refold run {app}", _not_run),
    Rule("STALLED", "critical", "{about} stands still", "refold projection list {app}", _stalled),
    Rule("PARKED", "warning", "Events of {about} are parked", "refold parked list {app} --of {more}", _parked),
    Rule("OVERDUE", "warning", "Timers of {about} are overdue", "refold process list {app} {more} --stuck", _overdue),
    Rule("ORPHANED", "warning", "{about} is not part of the app any more", "refold check {app}", _orphaned),
    Rule("BEHIND", "warning", "{about} falls behind", "refold run {app}", _behind),
    Rule("NOT_BUILT", "info", "A version of {about} is half built", "refold projection rebuild {app} {more}", _unbuilt),
    Rule("HELD", "info", "A version of {about} is held", "refold projection compare {app} {more}", _held),
)
"""What can be wrong. Each has an entry in docs/observability.md."""


def _read(found: Seen) -> Iterator[Standing]:
    """Give what is in use: versions that are not read are nobody's trouble."""
    return (each for each in found.standing if each.status == "active")


def _runs_late(each: Standing) -> bool:
    """Tell whether its trouble is only that nobody runs it."""
    return each.trouble.startswith(NOBODY)


def _how_far(each: Standing) -> str:
    return f"it is {each.events_behind:,} positions and {_span(each.seconds_behind)} behind"


def _span(seconds: float) -> str:
    """Return a span of time as people say it: 12 s, 5 min, 3 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,.0f} {unit}"
    return f"{seconds:,.0f} s"
