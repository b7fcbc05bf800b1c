"""The overview: how the app is, at a glance."""

from starlette.responses import Response

from refold.console.visit import Visit


async def show(visit: Visit) -> Response:
    """Show how far everything is."""
    standing = await visit.app.operations.standing() if visit.principal.sees_all else []
    return visit.page("overview.html", head=await visit.app.head(), standing=standing)
