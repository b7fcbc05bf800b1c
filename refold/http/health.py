"""Whether the process lives, whether it can do its work, and what it is."""

from starlette.responses import Response

import refold
from refold.errors import RefoldError
from refold.http.call import Call, answer


async def alive(call: Call) -> Response:
    """Say that the process answers."""
    return answer({"status": "alive"})


async def ready(call: Call) -> Response:
    """Say whether the log can be read, and everything that this process runs goes on; 503 if not.

    Anybody may ask, so that it says how many have stopped, and not which.
    """
    try:
        await call.app.head()
        stopped = call.app.operations.stopped()
    except RefoldError as error:
        return answer({"status": "not ready", "why": error.code}, status=503)
    if stopped:
        return answer({"status": "not ready", "why": "SUBSCRIPTION_FAILED", "stopped": len(stopped)}, status=503)
    return answer({"status": "ready"})


async def version(call: Call) -> Response:
    """Say which Refold this is, and which app."""
    return answer({"refold": refold.__version__, "app": call.app.name})
