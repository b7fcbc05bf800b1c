"""`POST /commands/PlaceOrder`: a command is decided, and answered with the position of its outcome."""

from starlette.responses import Response

from refold.http.call import Call, answer, found
from refold.model.body import command_of
from refold.model.message import Command
from refold.model.tag import tags_of


async def execute(call: Call) -> Response:
    """Execute a command; one that comes again with the same `Idempotency-Key` changes nothing."""
    name = call.path("name")
    kind = found(name, commands_of(call), "command")
    call.principal.must_command(name, tags_of(command := await call.json(lambda body: command_of(body, kind), name)))
    headers = call.request.headers
    position = await call.app.execute(
        command,
        id=call.own_id(name),
        actor=call.principal.name,
        occurred_at=call.moment("occurred_at"),
        correlation_id=headers.get("refold-correlation-id", ""),
        causation_id=headers.get("refold-causation-id", ""),
    )
    return answer({"position": position}, position=position)


def commands_of(call: Call) -> dict[str, type[Command]]:
    """Return the commands that an app decides, by name."""
    return {kind.__name__: kind for kind in call.app.commands}
