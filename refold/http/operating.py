"""What is sent to `/operations/…` and answered, and the table from which the OpenAPI document tells it."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from refold.http.call import MOST
from refold.http.log import Wired
from refold.runtime.audit import Act
from refold.runtime.books import Comparison, Parked, Skipped, Version
from refold.runtime.groups import Group, Which
from refold.runtime.operate import MOST_WORKERS
from refold.runtime.standing import Standing


class Fails(Struct, frozen=True):
    """A parked event, in a list."""

    name: str
    subscription: str
    position: int
    key: str
    """The tags whose later events wait behind it, as a JSON list."""
    type: str
    parked_at: datetime
    error: str
    """Empty if it only waits behind another."""
    attempts: int
    retry_at: datetime | None
    group: str


class Failures(Struct, frozen=True):
    """What is parked: by what went wrong, and each."""

    groups: list[Group]
    parked: list[Fails]
    count: int
    """How many there are, of which no more are listed than were asked for."""


class Inspected(Struct, frozen=True):
    """A parked event, whole."""

    parked: Parked
    event: Wired | None
    """None for a timer, or a message of another context, which operators see."""
    message: dict[str, str] | None = None
    timer: str = ""


class Mend(Which, frozen=True, forbid_unknown_fields=True):
    """Which parked events to try again."""


class Skip(Which, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which parked events to leave out for good, and why."""

    reason: str


class Tried(Struct, frozen=True):
    """How many were tried again, and which of them still fail."""

    tried: int
    failing: list[Fails]


class Done(Struct, frozen=True):
    """For how many it was done."""

    count: int


class GiveUp(Struct, frozen=True, forbid_unknown_fields=True):
    """What a process is to give up, and why."""

    key: str
    reason: str


class Again(Struct, frozen=True, forbid_unknown_fields=True):
    """Between which positions something is done again, and why."""

    after: Annotated[int, Meta(ge=0, le=MOST)]
    upto: Annotated[int, Meta(ge=1, le=MOST)]
    reason: str


class Anew(Struct, frozen=True, forbid_unknown_fields=True):
    """How a projection is rebuilt."""

    workers: Annotated[int, Meta(ge=1, le=MOST_WORKERS)] = 1
    hold: bool = False
    """Build and compare; it is switched to only when somebody says so."""


class Begun(Struct, frozen=True):
    """Whether a rebuild was begun, or was under way."""

    begun: bool


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version; the newest that is not read if none is named."""

    version: str | None = None


class Leave(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is to be left; one who asks twice and says so goes back once."""

    leaving: str | None = None


class Removed(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is removed."""

    version: str


class Awaited(Struct, frozen=True):
    """Something that a process has still to do."""

    process: str
    key: str
    position: int
    since: datetime
    event: str
    name: str
    command: dict[str, Any] | None
    due: datetime | None
    error: str
    attempts: int
    is_stuck: bool


class Told(NamedTuple):
    """How an endpoint is described."""

    method: str
    path: str
    name: str
    said: str
    gives: Any
    takes: type | None = None
    asks: tuple[str, ...] = ()
    """Names of query parameters, and of headers."""


OF = "/operations/projections/{name}"
TOLD = (
    Told("get", "/operations/standing", "standing", "How all projections and processes stand.", list[Standing]),
    Told("get", OF, "versions", "Which versions of a projection there are.", list[Version]),
    Told("get", "/operations/parked", "parked", "What fails and waits.", Failures, asks=("of", "group", "limit")),
    Told("get", "/operations/parked/at/{position}", "inspect", "It, whole.", list[Inspected], asks=("of",)),
    Told(
        "get", "/operations/skipped", "skipped", "What was left out, by whom and why.", list[Skipped], asks=("limit",)
    ),
    Told(
        "get",
        "/operations/waiting",
        "waiting",
        "What processes and effects have still to do, what is stuck first, then what is due first.",
        list[Awaited],
        asks=("process", "limit"),
    ),
    Told(
        "get",
        "/operations/audit",
        "audit",
        "What operators did, the newest first.",
        list[Act],
        asks=("about", "actor", "before", "limit"),
    ),
    Told("post", "/operations/parked/retry", "retry", "Try parked events again.", Tried, Mend),
    Told("post", "/operations/parked/skip", "skip", "Leave parked events out for good.", Done, Skip),
    Told("post", "/operations/processes/{name}/give-up", "giveUp", "Leave out all it has to do.", Done, GiveUp),
    Told(
        "post",
        "/operations/effects/{name}/repeat",
        "repeat",
        "Do an effect again.",
        Done,
        Again,
        asks=("Idempotency-Key",),
    ),
    Told("post", "/operations/outbox/republish", "republish", "Publish again.", Done, Again, asks=("Idempotency-Key",)),
    Told("post", f"{OF}/rebuild", "rebuild", "Begin to rebuild a projection.", Begun, Anew),
    Told("post", f"{OF}/compare", "compare", "Compare a version with the one that is read.", Comparison, Named),
    Told("post", f"{OF}/switch", "switch", "Let a version be the one that is read.", Version, Named),
    Told("post", f"{OF}/rollback", "rollback", "Read the version before again.", Version, Leave),
    Told("post", f"{OF}/drop", "drop", "Remove a version that is not read.", Done, Removed),
)
