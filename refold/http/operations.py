"""`/operations/…`: what operators see and do, as `app.operations` has it.

Who is narrowed to some tags or views sees nothing here: figures, keys and errors are about all that there is. All
others see everything but what a program says of its failures: that is for operators, since it may say anything.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response

from refold.http.access import Principal
from refold.http.call import Call, answer, found, whole
from refold.http.log import wired
from refold.http.operating import (
    Again,
    Anew,
    Awaited,
    Begun,
    Done,
    Fails,
    Failures,
    GiveUp,
    Inspected,
    Leave,
    Mend,
    Named,
    Removed,
    Skip,
    Tried,
)
from refold.http.problem import Refusal
from refold.runtime.audit import Act
from refold.runtime.books import Comparison, Parked, Skipped, Version
from refold.runtime.groups import Which, group_of, grouped
from refold.runtime.mend import named
from refold.runtime.operate import Operations, still_failing
from refold.runtime.standing import NOBODY
from refold.runtime.waiting import Waiting

T = TypeVar("T", bound=Struct)
PAGE = 100
WITHHELD = "operators see why"
WORDS = ("trouble", "error", "traceback", "state")
"""The fields in which stands what programs say of their failures, and what came of it."""
INBOX = "inbox."


async def standing(call: Call) -> Response:
    """Tell how every projection, process, outbox and inbox stands."""
    return answer(shown(await _operations(call).standing(), call.principal))


async def versions(call: Call) -> Response:
    """Tell which versions of a projection there are."""
    return answer(await _of(call, "projection").versions(call.path("name")))


async def parked(call: Call) -> Response:
    """Tell what is parked, by what went wrong."""
    rows, wanted = await _operations(call).parked(call.text("of")), call.text("group")
    found = [(group, failed) for group, failed in grouped(rows) if wanted in (None, group.id)]
    if wanted is not None:
        rows = [each for _, failed in found for each in failed]
    listed = shown([fails(each) for each in rows[: call.limit(PAGE)]], call.principal)
    return answer(Failures(shown([group for group, _ in found], call.principal), listed, len(rows)))


async def inspect(call: Call) -> Response:
    """Return what is parked at a position, whole."""
    which = Which(positions=(whole(call.path("position")) or 0,), of=call.text("of"))
    operations = _operations(call)
    return answer([await inspected(operations, each, call.principal) for each in await operations.failing(which)])


async def skipped(call: Call) -> Response:
    """Tell what was skipped, when, by whom and why; the newest first."""
    rows: list[Skipped] = await _operations(call).skipped(limit=call.limit(PAGE))
    return answer(shown(rows[::-1], call.principal))


async def waiting(call: Call) -> Response:
    """Tell what processes and effects have still to do, what is stuck first, then what is due first."""
    rows = await _operations(call).waiting(call.text("process"), limit=call.limit(PAGE))
    return answer([awaited(each) for each in shown(rows, call.principal)])


async def audit(call: Call) -> Response:
    """Tell what operators did, the newest first."""
    about, actor = call.text("about") or "", call.text("actor") or ""
    before, limit = call.number("before"), call.limit(PAGE)
    acts: list[Act] = await _operations(call).audit(about=about, actor=actor, before=before, limit=limit)
    return answer(acts)


async def retry(call: Call) -> Response:
    """Try parked events again."""
    operations = _operations(call)
    wanted = await operations.failing(await _body(call, Mend))
    left = await operations.retry(*wanted, actor=call.principal.name) if wanted else []
    failing = still_failing(left, wanted)[: call.limits.rows]
    return answer(Tried(len(wanted), [fails(each) for each in failing]))


async def skip(call: Call) -> Response:
    """Leave parked events out for good; those that were left out before are passed over."""
    operations = _operations(call)
    which = await _body(call, Skip)
    wanted = await operations.failing(which)
    if missing := set(which.positions) - {each.position for each in wanted}:
        missing -= {each.position for each in await operations.skipped()}
        if missing:
            raise Refusal(404, "NOT_FOUND", f"nothing is parked at position {min(missing)}")
    await operations.skip(*wanted, reason=which.reason, actor=call.principal.name)
    return answer(Done(len(wanted)))


async def give_up(call: Call) -> Response:
    """Leave out all that a process has still to do for a key."""
    operations, body = _of(call, "process"), await _body(call, GiveUp)
    count = await operations.give_up(call.path("name"), body.key, reason=body.reason, actor=call.principal.name)
    return answer(Done(count))


async def repeat(call: Call) -> Response:
    """Do an effect again; what comes again with its `Idempotency-Key` is not done again, and counts 0."""
    operations, body, name = _of(call, "effect"), await _body(call, Again), call.path("name")
    given: dict[str, Any] = msgspec.structs.asdict(body)
    count = await operations.repeat(
        name, **given, actor=call.principal.name, id=call.own_id(f"operations/repeat/{name}")
    )
    return answer(Done(count))


async def republish(call: Call) -> Response:
    """Publish events again; what comes again with its `Idempotency-Key` is not done again, and counts 0."""
    operations, body = _operations(call), await _body(call, Again)
    given: dict[str, Any] = msgspec.structs.asdict(body)
    return answer(
        Done(await operations.republish(**given, actor=call.principal.name, id=call.own_id("operations/republish")))
    )


async def rebuild(call: Call) -> Response:
    """Begin to rebuild a projection, in this process; how far it is can be seen in how it stands."""
    operations, body = _of(call, "projection"), await _body(call, Anew)
    begun = await operations.begin_rebuild(
        call.path("name"), workers=body.workers, hold=body.hold, actor=call.principal.name
    )
    return answer(Begun(begun), status=202)


async def compare(call: Call) -> Response:
    """Compare a version with the one that is read."""
    operations, body = _of(call, "projection"), await _body(call, Named)
    compared: Comparison = await operations.compare(call.path("name"), body.version)
    return answer(compared)


async def switch(call: Call) -> Response:
    """Let a version be the one that is read."""
    operations, body = _of(call, "projection"), await _body(call, Named)
    version: Version = await operations.switch(call.path("name"), body.version, actor=call.principal.name)
    return answer(version)


async def rollback(call: Call) -> Response:
    """Let the version that was read before be read again."""
    operations, body = _of(call, "projection"), await _body(call, Leave)
    version: Version = await operations.rollback(call.path("name"), leaving=body.leaving, actor=call.principal.name)
    return answer(version)


async def drop(call: Call) -> Response:
    """Remove a version that is not read; one that is not there is gone."""
    operations, body, name = _of(call, "projection"), await _body(call, Removed), call.path("name")
    there = any(each.version == body.version for each in await operations.versions(name))
    if there:
        await operations.drop(name, body.version, actor=call.principal.name)
    return answer(Done(int(there)))


def shown(rows: Iterable[T], principal: Principal) -> list[T]:
    """Return rows as somebody is shown them: what programs say of their failures is for operators."""
    return list(rows) if principal.can_be("operator") else [_withheld(each) for each in rows]


def said_to(principal: Principal, words: str) -> str:
    """Return what a program says of a failure, as somebody is shown it."""
    return words if not words or principal.can_be("operator") else WITHHELD


def fails(parked: Parked) -> Fails:
    """Return a parked event as it stands in a list."""
    group = group_of(parked) if parked.error else ""
    given = {name: getattr(parked, name) for name in Fails.__struct_fields__ if name not in ("name", "group")}
    return Fails(name=named(parked.subscription), group=group, **given)


async def inspected(operations: Operations, parked: Parked, principal: Principal) -> Inspected:
    """Return a parked event with what it is, as somebody is shown it; messages are for operators, too."""
    [row] = shown([parked], principal)
    if parked.timer:
        return Inspected(row, None, timer=parked.timer)
    if parked.subscription.startswith(INBOX):
        if not principal.can_be("operator"):
            return Inspected(row, None)
        message = await operations.message(parked)
        body = {"id": message.id, "key": message.key, "body": message.body.decode(errors="replace")}
        return Inspected(row, None, message=body)
    async for stored in operations.events(after=parked.position - 1, upto=parked.position):
        return Inspected(row, wired(stored))
    return Inspected(row, None)


def awaited(waiting: Waiting) -> Awaited:
    """Return something that is waited for, with its command by name and fields."""
    fields = msgspec.structs.asdict(waiting)
    command = waiting.command
    if command is not None:
        own = {} if isinstance(command, str) else msgspec.structs.asdict(command)
        fields["command"] = {"name": command if isinstance(command, str) else type(command).__name__, **own}
    return Awaited(**fields)


def _withheld(row: T) -> T:
    said = [name for name in WORDS if (text := getattr(row, name, "")) and not text.startswith(NOBODY)]
    return replace(row, **dict.fromkeys(said, WITHHELD))


def _operations(call: Call) -> Operations:
    call.principal.must_see_all("operations")
    return call.app.operations


def _of(call: Call, kind: Literal["projection", "process", "effect"]) -> Operations:
    """Return the operations of an app, which must have what the path names."""
    operations = _operations(call)
    described = call.app.describe()
    names = described["projections"] if kind == "projection" else [*described["processes"], *described["effects"]]
    if kind == "effect":
        names = described["effects"]
    found(call.path("name"), dict.fromkeys(names), kind)
    return operations


async def _body(call: Call, kind: type[Any]) -> Any:
    return await call.json(msgspec.json.Decoder(kind).decode, kind.__name__)
