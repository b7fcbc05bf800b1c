"""What led to an event, and all that came of it: as a picture, and as a list."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from refold.console.tree import can_be_drawn, drawn, label_of, note_of
from refold.console.visit import Visit
from refold.http import causes
from refold.model.state import StateKind, state_kind
from refold.runtime.causes import MOST, Cause, Causes

DEEPEST = 40
"""How deeply lists stand in lists; what is deeper stands beside each other."""


class Item(Struct):
    """A node in the list."""

    node: Cause
    label: str
    note: str
    opens: int
    """How many lists begin before it: one or none."""
    closes: int
    """How many items, with their lists, end before it."""
    stories: list[tuple[str, tuple[str, ...]]]
    is_asked: bool


async def show(visit: Visit) -> Response:
    """Show the tree that an event is in."""
    found = await causes.asked(visit)

    def address(node: Cause) -> str | None:
        return visit.url("log", node.position) if node.kind == "event" else None

    items = list(_items(visit, found))
    return visit.page(
        "causes.html",
        causes=found,
        most=MOST,
        asked=next(item for item in items if item.is_asked),
        picture=drawn(found, address) if can_be_drawn(found) else None,
        items=items,
        ends=min(found.nodes[-1].depth, DEEPEST) + 1,
        failed=sum(node.kind == "failed" or node.is_stuck for node in found.nodes),
        events=sum(node.kind == "event" for node in found.nodes),
        shell=visit.shell("log", "causes", str(found.position)),
    )


def _items(visit: Visit, found: Causes) -> Iterator[Item]:
    kinds = [state_kind(each) for each in visit.app.states]
    names = {kind.cls: set(visit.app.schema.names(kind.events)) for kind in kinds}
    before = -1
    for node in found.nodes:
        depth = min(node.depth, DEEPEST)
        stories = [
            (kind.cls.__name__, key)
            for kind in kinds
            if node.kind == "event" and node.name in names[kind.cls] and (key := _key(kind, node.tags)) is not None
        ]
        is_asked = node.kind == "event" and node.position == found.position
        yield Item(
            node, label_of(node), note_of(node), int(depth > before), max(before - depth + 1, 0), stories, is_asked
        )
        before = depth


def _key(kind: StateKind, tags: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the key of the one state of a kind that an event with these tags belongs to, if it is one."""
    values: list[Any] = []
    for key in kind.keys:
        mine = [tag.partition(":")[2] for tag in tags if tag.startswith(f"{key.tag.name}:")]
        if len(mine) != 1:
            return None
        values += mine
    return tuple(values)
