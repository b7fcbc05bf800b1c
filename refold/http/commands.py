"""`POST /commands/PlaceOrder`: a command is decided, and answered with the position of its outcome."""

from collections.abc import Mapping
from functools import lru_cache

from starlette.responses import Response

from refold.http.call import Call, answer, found
from refold.model.body import command_of
from refold.model.message import Command
from refold.model.tag import tags_of


async def execute(call: Call) -> Response:
    """Execute a command; one that comes again with the same `Idempotency-Key` changes nothing."""
    name, principal = call.path("name"), call.principal
    kind = found(name, named(call.app.commands), "command")
    command = await call.json(lambda body: command_of(body, kind), name)
    principal.must_command(name, () if principal.tags is None else tags_of(command))
    position = await call.app.execute(
        command,
        id=call.own_id(name),
        actor=principal.name,
        occurred_at=call.moment("occurred_at"),
        correlation_id=call.header("refold-correlation-id") or "",
        causation_id=call.header("refold-causation-id") or "",
    )
    return answer({"position": position}, position=position)


@lru_cache(maxsize=100)
def named(commands: tuple[type[Command], ...]) -> Mapping[str, type[Command]]:
    """Return the commands that an app decides, by name."""
    return {kind.__name__: kind for kind in commands}
