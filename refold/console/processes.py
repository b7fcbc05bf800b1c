"""What processes and effects have still to do: timers, what is stuck, and giving it up."""

from starlette.responses import Response

from refold.console.acting import done, tried
from refold.console.visit import Visit
from refold.errors import InvalidQuery
from refold.http.operations import awaited, shown

MOST = 300


async def show(visit: Visit) -> Response:
    """Show what they have still to do, what is stuck first."""
    process = visit.text("process") or None
    described = visit.app.describe()
    names = [*described["processes"], *described["effects"]]
    operations = visit.app.operations
    waiting = await operations.waiting(process, limit=MOST) if names else []
    left = await operations.left(process if names else None)
    only_stuck = visit.text("stuck") == "yes"
    wanted = [each for each in waiting if each.is_stuck or not only_stuck]
    standing = [each for each in await operations.standing() if each.kind in ("process", "effect")]
    return visit.page(
        "processes.html",
        names=names,
        process=process,
        only_stuck=only_stuck,
        rows=[awaited(each) for each in shown(wanted, visit.principal)],
        count=left.stuck if only_stuck else left.count,
        stuck=left.stuck,
        timers=left.timers,
        next_due=min((each.due for each in waiting if each.due and not each.error), default=None),
        standing=shown(standing, visit.principal),
    )


async def resume(visit: Visit) -> Response:
    """Try again all that has failed of a process for a key."""
    form = await visit.form()
    name, key = form.get("process", ""), form.get("key", "")

    async def work() -> str:
        operations = visit.app.operations
        await operations.waiting(name, limit=1)  # refuses a name that there is not
        wanted = [each for each in await operations.parked(name) if each.error and key in ("", *each.keys[:1])]
        if not wanted:
            return f"{name} has nothing that fails{f' for {key}' if key else ''} any more"
        return await tried(visit, wanted)

    return await done(visit, work, "processes")


async def ask_give_up(visit: Visit) -> Response:
    """Ask why a process is to give up."""
    return await _ask_give_up(visit, visit.text("process") or "", visit.text("key") or "", "")


async def give_up(visit: Visit) -> Response:
    """Leave out all that a process has still to do for a key."""
    form = await visit.form()
    name, key, reason = form.get("process", ""), form.get("key", ""), form.get("reason", "")
    if not reason.strip():
        return await _ask_give_up(visit, name, key, "Say why; nothing was done.")

    async def work() -> str:
        count = await visit.app.operations.give_up(name, key, reason=reason, actor=visit.principal.name)
        return f"{name} has given up {count:,} for {key}; the reason is kept"

    return await done(visit, work, "processes")


async def _ask_give_up(visit: Visit, name: str, key: str, said: str) -> Response:
    rows = [awaited(each) for each in await visit.app.operations.waiting(name) if each.key == key]
    if not rows:
        raise InvalidQuery(f"{name} has nothing to do for {key} any more")
    command = visit.shell("process", "give-up", "APP", name, key, reason="why")
    return visit.page("give_up.html", process=name, key=key, rows=rows[:MOST], said=said, command=command)
