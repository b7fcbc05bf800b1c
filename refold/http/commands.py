"""`POST /commands/PlaceOrder`: a command is decided, and answered with the position of its outcome."""

from starlette.responses import Response

from refold.http.call import Call, answer, found
from refold.http.problem import Refusal
from refold.model.body import command_of
from refold.model.message import Command
from refold.model.tag import tags_of

LONGEST_ID = 200


async def execute(call: Call) -> Response:
    """Execute a command; one that comes again with the same `Idempotency-Key` changes nothing."""
    name = call.path("name")
    kind = found(name, commands_of(call), "command")
    call.principal.must_command(name, tags_of(command := await call.json(lambda body: command_of(body, kind), name)))
    headers = call.request.headers
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_ID:
        raise Refusal(400, "INVALID_QUERY", f"Idempotency-Key has 1 to {LONGEST_ID} characters")
    position = await call.app.execute(
        command,
        # One who sends a key of somebody else gets an outcome of their own.
        id=None if key is None else f"{call.principal.name}/{name}/{key}",
        actor=call.principal.name,
        occurred_at=call.moment("occurred_at"),
        correlation_id=headers.get("refold-correlation-id", ""),
        causation_id=headers.get("refold-causation-id", ""),
    )
    return answer({"position": position}, position=position)


def commands_of(call: Call) -> dict[str, type[Command]]:
    """Return the commands that an app decides, by name."""
    return {kind.__name__: kind for kind in call.app.commands}
