"""What operators do from pages: it is done, and the next page says what has come of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.responses import Response

from refold.console.visit import Visit
from refold.errors import RefoldError
from refold.http.call import whole
from refold.http.problem import Refusal
from refold.runtime.books import Parked
from refold.runtime.groups import Which
from refold.runtime.operate import still_failing


async def done(visit: Visit, work: Callable[[], Awaitable[str]], *back: str, **query: object) -> Response:
    """Do something that returns what to say of it, and go to a page that says so, or why it failed."""
    try:
        said, good = await work(), True
    except RefoldError as error:
        said, good = str(error), False
    return visit.go(*back, notice=said, good=good, **query)


async def tried(visit: Visit, wanted: Sequence[Parked]) -> str:
    """Try parked events again, and return what to say of it."""
    left = await visit.app.operations.retry(*wanted, actor=visit.principal.name)
    fail, count = len(still_failing(left, wanted)), f"{len(wanted):,} tried again"
    return f"{count}; {fail:,} still fail" if fail else f"{count} and done"


def which(given: Mapping[str, str]) -> Which:
    """Read from a form or an address which parked events are meant."""
    text = given.get("position", "")
    position = whole(text)
    if text and position is None:
        raise Refusal(400, "INVALID_QUERY", f"position={text[:40]!r}: write a whole number")
    return Which(
        of=given.get("of") or None,
        group=given.get("group") or None,
        positions=() if position is None else (position,),
        key=given.get("key") or None,
        all=given.get("all") == "yes",
    )


def options(meant: Which) -> dict[str, str]:
    """Return the options by which the command line means the same parked events, but for positions, which are words."""
    said = {"of": meant.of, "group": meant.group, "key": meant.key}
    return {name: value for name, value in said.items() if value}


def words(meant: Which) -> list[str]:
    """Return the words by which the command line means them."""
    return [*(str(each) for each in meant.positions), *(["--all"] if meant.all else [])]
