"""What fails and waits: by what went wrong, each whole, tried again or left out with a reason."""

from msgspec import UNSET
from starlette.responses import Response

from refold.console.acting import done, options, tried, which, words
from refold.console.visit import Visit
from refold.http.log import Wired
from refold.http.operations import inspected, shown
from refold.http.problem import Refusal
from refold.runtime.books import Skipped
from refold.runtime.groups import Which, grouped

FEW, MOST = 8, 500
"""How many of a group are shown beside others, and by itself."""
READ = 2_000
"""How many a page looks at, since it does so every two seconds."""
GROUPS = 30
SKIPPED = 200


async def show(visit: Visit) -> Response:
    """Show what is parked, by what went wrong."""
    of, group = visit.text("of"), visit.text("group")
    parked = await visit.app.operations.parked(of, limit=READ + 1)
    found = [(each, rows) for each, rows in grouped(parked[:READ]) if group in (None, each.id)]
    return visit.page(
        "parked.html",
        groups=[(*shown([each], visit.principal), rows[: MOST if group else FEW]) for each, rows in found[:GROUPS]],
        count=len(found),
        read=READ if len(parked) > READ else None,
        of=of,
        group=group,
        failed=sum(each.count for each, _ in found),
        waiting=sum(each.behind for each, _ in found),
    )


async def skipped(visit: Visit) -> Response:
    """Show what was left out, when, by whom and why."""
    found: list[Skipped] = await visit.app.operations.skipped(limit=SKIPPED)
    return visit.page("skipped.html", skipped=found[::-1], most=SKIPPED)


async def inspect(visit: Visit) -> Response:
    """Show what is parked at a position, whole."""
    meant = which({"position": visit.path("position"), "of": visit.text("of") or ""})
    operations = visit.app.operations
    found = [await inspected(operations, each, visit.principal) for each in await operations.failing(meant)]
    return visit.page("inspect.html", position=visit.path("position"), found=found, of=meant.of, data=_data)


async def retry(visit: Visit) -> Response:
    """Try parked events again."""
    meant = which(await visit.form())

    async def work() -> str:
        wanted = await visit.app.operations.failing(meant)
        return await tried(visit, wanted) if wanted else "nothing of it is parked any more"

    return await done(visit, work, "parked")


async def ask_skip(visit: Visit) -> Response:
    """Ask why something is to be left out."""
    return await _ask_skip(visit, which(dict(visit.request.query_params)), "")


async def skip(visit: Visit) -> Response:
    """Leave parked events out for good."""
    form = await visit.form()
    meant, reason = which(form), form.get("reason", "")
    if not reason.strip():
        return await _ask_skip(visit, meant, "Say why; nothing was done.")

    async def work() -> str:
        wanted = await visit.app.operations.failing(meant)
        await visit.app.operations.skip(*wanted, reason=reason, actor=visit.principal.name)
        return f"{len(wanted):,} skipped; the reason is kept" if wanted else "nothing of it is parked any more"

    return await done(visit, work, "parked")


async def _ask_skip(visit: Visit, meant: Which, said: str) -> Response:
    found = await visit.app.operations.failing(meant)
    if not found:
        raise Refusal(404, "NOT_FOUND", "nothing of this is parked any more")
    command = visit.shell("parked", "skip", "APP", *words(meant), **options(meant), reason="why")
    return visit.page("skip.html", meant=meant, found=found[:MOST], count=len(found), said=said, command=command)


def _data(event: Wired) -> object:
    """Return the data of an event as it can be shown."""
    return event.data_base64 if event.data is UNSET else bytes(event.data)
