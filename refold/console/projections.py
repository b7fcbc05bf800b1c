"""How projections and processes stand, one projection with its versions, and what is done about them."""

from starlette.responses import Response

from refold.console.acting import done
from refold.console.visit import Visit
from refold.http.call import found, whole
from refold.http.operations import shown
from refold.http.problem import Refusal
from refold.runtime.operate import MOST_WORKERS
from refold.runtime.standing import Standing


async def board(visit: Visit) -> Response:
    """Show how everything stands."""
    standing = shown(await visit.app.operations.standing(), visit.principal)
    return visit.page("projections.html", standing=standing, head=await visit.app.head())


async def show(visit: Visit) -> Response:
    """Show a projection with its versions."""
    name = _named(visit)
    operations = visit.app.operations
    standing = [each for each in shown(await operations.standing(), visit.principal) if each.name == name]
    versions = {each.version: each for each in await operations.versions(name)}
    rows = [(each, versions[each.version]) for each in standing if each.version in versions]
    compared = next((each for each in rows if each[0].status == "building" and each[0].comparison), None)
    compared = compared or next((each for each in rows if each[0].status == "active" and each[0].comparison), None)
    return visit.page(
        "projection.html",
        name=name,
        rows=sorted(rows, key=_order),
        active=next((each for each in standing if each.status == "active"), None),
        building=next((each for each in standing if each.status == "building"), None),
        can_go_back=any(each.status == "kept" for each in standing),
        compared=compared[0] if compared else None,
        most_workers=MOST_WORKERS,
    )


async def compare(visit: Visit) -> Response:
    """Compare a version with the one that is read, now."""
    name, version = _named(visit), visit.text("version")
    comparison = await visit.app.operations.compare(name, version)
    return visit.page("comparison.html", name=name, version=version, comparison=comparison)


async def rebuild(visit: Visit) -> Response:
    """Begin to rebuild a projection, in this process."""
    name, form = _named(visit), await visit.form()
    workers = whole(form.get("workers", "1"), MOST_WORKERS)
    if workers is None:
        raise Refusal(400, "INVALID_QUERY", f"workers: write a number from 1 to {MOST_WORKERS}")

    async def work() -> str:
        begun = await visit.app.operations.begin_rebuild(
            name, workers=workers, hold="hold" in form, actor=visit.principal.name
        )
        return f"{name} is being rebuilt; what is read stays" if begun else f"{name} was being rebuilt already"

    return await done(visit, work, "projections", name)


async def switch(visit: Visit) -> Response:
    """Let a version be the one that is read."""
    name, form = _named(visit), await visit.form()

    async def work() -> str:
        version = await visit.app.operations.switch(name, form.get("version") or None, actor=visit.principal.name)
        return f"{name} is read as of version {version.version} now"

    return await done(visit, work, "projections", name)


async def rollback(visit: Visit) -> Response:
    """Let the version that was read before be read again."""
    name, form = _named(visit), await visit.form()

    async def work() -> str:
        leaving = form.get("leaving") or None
        version = await visit.app.operations.rollback(name, leaving=leaving, actor=visit.principal.name)
        return f"{name} is read as of version {version.version} again"

    return await done(visit, work, "projections", name)


async def ask_drop(visit: Visit) -> Response:
    """Ask whether a version is really to be removed."""
    return visit.page("drop.html", name=_named(visit), version=visit.text("version") or "", said="")


async def drop(visit: Visit) -> Response:
    """Remove a version, if its name was typed."""
    name, form = _named(visit), await visit.form()
    version = form.get("version", "")
    if form.get("typed", "").strip() != version or not version:
        said = f"Type {version} to remove it; nothing was done."
        return visit.page("drop.html", status=400, name=name, version=version, said=said)

    async def work() -> str:
        await visit.app.operations.drop(name, version, actor=visit.principal.name)
        return f"version {version} of {name} is gone"

    return await done(visit, work, "projections", name)


def _named(visit: Visit) -> str:
    name = visit.path("name")
    return found(name, {each: each for each in visit.app.describe()["projections"]}, "projection")


def _order(row: tuple[Standing, object]) -> tuple[int, str]:
    return (["building", "active", "kept", "rejected"].index(row[0].status), row[0].version)
