"""Who emits and who follows what: a contract as a graph in columns, in which every edge leads to the right."""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from refold.contract.describe import Contract
from refold.contract.markup import anchor

Kind: TypeAlias = Literal["inbox", "command", "event", "process", "effect", "projection", "outbox", "published"]
COLUMNS = ("from other contexts", "commands", "events", "what follows them", "what comes of it")


class Node(Struct, frozen=True):
    """Something in the graph. What a process gives stands again at the right, since it would lead back."""

    id: str
    kind: Kind
    label: str
    about: str
    """The anchor of what is written about it."""
    column: int


class Graph(Struct, frozen=True):
    """Nodes, and edges between their ids."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


def graph_of(contract: Contract) -> Graph:
    """Return the graph of a contract; old versions are not in it."""
    nodes = {node.id: node for node in _nodes(contract)}
    edges = sorted({edge for edge in _edges(contract) if edge[0] in nodes and edge[1] in nodes})
    used = {end for edge in edges for end in edge}
    shown = [node for node in nodes.values() if node.column < 4 or node.id in used]
    return Graph(tuple(shown), tuple(edges))


def short(id: str) -> str:
    """Return the id of an event without a version that says nothing."""
    return id.removesuffix(".v1")


def _nodes(contract: Contract) -> Iterator[Node]:
    for taken in contract.taken:
        yield Node(f"inbox {taken.context}", "inbox", taken.context, anchor("inbox", taken.context), 0)
    for command in contract.commands:
        about = anchor("command", command.name)
        yield Node(f"command {command.name}", "command", command.name, about, 1)
        yield Node(f"given {command.name}", "command", command.name, about, 4)
    for event in contract.events:
        if event.becomes is None:
            yield Node(f"event {event.id}", "event", short(event.id), anchor("event", event.id), 2)
    for each in contract.followers:
        yield Node(f"{each.kind} {each.name}", each.kind, each.name, anchor(each.kind, each.name), 3)
    if contract.published is not None:
        topic = contract.published.topic
        yield Node("outbox", "outbox", topic, anchor("outbox", topic), 3)
        for event in contract.published.events:
            yield Node(f"published {event.id}", "published", short(event.id), anchor("published", event.id), 4)


def _edges(contract: Contract) -> Iterator[tuple[str, str]]:
    for taken in contract.taken:
        yield from (
            (f"inbox {taken.context}", f"{kind} {name}") for name in taken.gives for kind in ("command", "event")
        )
    for command in contract.commands:
        yield from _each(f"command {command.name}", "event", command.emits)
    for each in contract.followers:
        node = f"{each.kind} {each.name}"
        yield from ((f"event {event}", node) for event in each.follows)
        yield from _each(node, "given", each.emits)
    if contract.published is not None:
        for translation in contract.published.translations:
            yield from ((f"event {event}", "outbox") for event in translation.follows)
            yield from _each("outbox", "published", translation.emits)


def _each(start: str, kind: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((start, f"{kind} {name}") for name in names)
