"""Tells a command that comes again from another one that was given the same id by mistake."""

from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import NODEFAULT, structs

from refold.errors import AppendIdReused
from refold.model.message import Command
from refold.model.record import Metadata
from refold.model.schema import decode_metadata
from refold.store.api import Appended, Store

_encode = msgspec.json.Encoder(order="deterministic").encode


def asked_of(command: Command) -> str:
    """Return a short text that tells a command from others of its class, unless JSON cannot hold it.

    Fields that have their default are left out, so that a class to which some are added does not make another
    command of one that is under way.
    """
    defaults = _defaults(type(command))
    fields = structs.asdict(command).items()
    try:
        said = _encode({name: value for name, value in fields if name not in defaults or value != defaults[name]})
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        said = b""
    return blake2b(said, digest_size=8).hexdigest()


async def first_position(log: Store, id: str, metadata: Metadata) -> int | None:
    """Return the last position that the command with this id was given when it came first; None if it did not.

    Raises `AppendIdReused` if that was another command than the one whose metadata this is.
    """
    done = await log.appended(id)
    if done is not None and metadata.asked:
        _check_same(await _metadata_at(log, done), metadata, id)
    return None if done is None else done.last


def _check_same(first: Metadata, again: Metadata, id: str) -> None:
    if first.command != again.command:
        said = first.command or "events recorded without a command"
        raise AppendIdReused(f"the id {id!r} was used before, for {said}: give {again.command} an id of its own")
    if first.asked not in ("", again.asked):
        raise AppendIdReused(f"the id {id!r} was used before, for a {again.command} with other fields")


async def _metadata_at(log: Store, done: Appended) -> Metadata:
    [first] = [event async for page in log.read(after=done.first - 1, upto=done.first) for event in page]
    return decode_metadata(first)


@cache
def _defaults(kind: type[Command]) -> dict[str, Any]:
    fields = structs.fields(kind)
    made = {each.name: each.default_factory() for each in fields if each.default_factory is not NODEFAULT}
    return made | {each.name: each.default for each in fields if each.default is not NODEFAULT}
