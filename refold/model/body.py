"""A command that somebody wrote as JSON: decoded strictly, and if it does not fit, told where and why."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct, structs

from refold.errors import InvalidBody
from refold.model.message import Command

C = TypeVar("C", bound=Command)
UNFIT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises at JSON that does not fit, or is none."""
MOST = 20
"""How many fields that a command does not have are told: what is sent must not come back many times as large."""
WHERE = re.compile(r"^(?P<what>.*) - at `(?P<path>\$.*)`$", re.DOTALL)


class Misfit(Struct, frozen=True):
    """What does not fit, and where."""

    path: str
    """As in `$.lines[0].sku`; `$` is the whole."""
    message: str


def command_of(body: bytes, kind: type[C]) -> C:
    """Decode a command, or raise `InvalidBody`, whose `errors` have each field that does not fit.

    A field that the command does not have is refused: it was meant to say something.
    """
    try:
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UNFIT as error:
        raise invalid(kind.__name__, misfit(error)) from None
    found = list(islice(_unknown(given, kind), MOST))
    if not found:
        try:
            return msgspec.json.decode(body, type=kind)
        except UNFIT as error:
            found = list(_unfit(given, kind)) or [misfit(error)]
    raise invalid(kind.__name__, *found)


def misfit(error: Exception) -> Misfit:
    """Return what msgspec says does not fit, and where."""
    said = WHERE.match(str(error))
    return Misfit(said["path"], said["what"]) if said else Misfit("$", str(error))


def invalid(what: str, *misfits: Misfit) -> InvalidBody:
    """Return the error for a body that is no such thing."""
    told = "; ".join(f"{each.message} at {each.path}" for each in misfits)
    return InvalidBody(f"the body is no {what}: {told}", errors=[structs.asdict(each) for each in misfits])


def _unknown(given: dict[str, msgspec.Raw], kind: type[Command]) -> Iterator[Misfit]:
    known = kind.__struct_encode_fields__
    for name in given:
        if name not in known:
            yield Misfit(f"$.{name}", f"Unknown field; {kind.__name__} has {', '.join(known) or 'no fields'}")


def _unfit(given: dict[str, msgspec.Raw], kind: type[Command]) -> Iterator[Misfit]:
    """Look at each field by itself, so that all that is wrong is told at once."""
    for field in structs.fields(kind):
        name = field.encode_name
        if name not in given:
            if field.required:
                yield Misfit(f"$.{name}", f"Object missing required field `{name}`")
            continue
        try:
            msgspec.json.decode(given[name], type=field.type)
        except UNFIT as error:
            found = misfit(error)
            yield Misfit(f"$.{name}{found.path.removeprefix('$')}", found.message)
