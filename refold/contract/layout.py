"""Where the boxes and lines of a graph in columns go, so that one can follow the lines.

The way of Sugiyama, Tagawa and Toda (1981), for columns that are given: lines that pass a column get a place in it,
columns are sorted by the middle of their neighbours until no fewer lines cross, and boxes move toward their neighbours
as far as their order allows. Every line has a place of its own at its box.
"""

from bisect import bisect, insort
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from msgspec import Struct

Edge: TypeAlias = tuple[str, str]
Point: TypeAlias = tuple[float, float]
PORT = 9.0
"""Between two lines at a box."""
LEAST = 30.0
"""The height of a box with few lines."""
GAP = 10.0
"""Between two boxes."""
SWEEPS = 12


class Box(Struct, frozen=True):
    """Where a node is."""

    x: float
    y: float
    width: float
    height: float


class Layout(Struct, frozen=True):
    """Boxes by the ids of nodes; of each edge the points through which it goes; and how large it all is."""

    boxes: Mapping[str, Box]
    lines: Mapping[Edge, tuple[Point, ...]]
    columns: tuple[tuple[float, float], ...]
    """Of each column its left side and width; no width if nothing is in it."""
    width: float
    height: float


def laid_out(columns: Sequence[Sequence[str]], widths: Sequence[float], edges: Sequence[Edge]) -> Layout:
    """Place nodes, given by column, and edges, each from a column to one further right."""
    chains, rows = _chained(columns, edges)
    links = [link for chain in chains.values() for link in pairwise(chain)]
    rows = _sorted(rows, links)
    nodes = {node for column in columns for node in column}
    heights = _heights([node for row in rows for node in row], nodes, links)
    tops = _tops(rows, heights, links)
    sides = _sides(columns, widths, rows, links)
    boxes = {
        node: Box(sides[number][0], tops[node], sides[number][1], heights[node])
        for number, row in enumerate(rows)
        for node in row
    }
    ports = _ports(links, boxes)
    lines = {edge: tuple(_through(chain, boxes, ports)) for edge, chain in chains.items()}
    shown = {node: box for node, box in boxes.items() if node in nodes}
    right = max((x + width for x, width in sides), default=0.0)
    low = max((box.y + box.height for box in boxes.values()), default=0.0)
    return Layout(shown, lines, tuple(sides), right, low)


def crossings(rows: Sequence[Sequence[str]], links: Sequence[Edge]) -> int:
    """Count how many pairs of links cross."""
    place = {node: (number, at) for number, row in enumerate(rows) for at, node in enumerate(row)}
    found = 0
    for number in range(len(rows) - 1):
        between = sorted((place[a][1], place[b][1]) for a, b in links if place[a][0] == number)
        seen: list[int] = []
        for _, end in between:
            found += len(seen) - bisect(seen, end)
            insort(seen, end)
    return found


def _chained(columns: Sequence[Sequence[str]], edges: Sequence[Edge]) -> tuple[dict[Edge, list[str]], list[list[str]]]:
    """Give edges that pass columns a place in each; its name cannot be a node's."""
    rows = [list(column) for column in columns]
    where = {node: number for number, column in enumerate(columns) for node in column}
    chains: dict[Edge, list[str]] = {}
    for number, edge in enumerate(edges):
        passed = [f"\0{number} {column}" for column in range(where[edge[0]] + 1, where[edge[1]])]
        for column, name in enumerate(passed, where[edge[0]] + 1):
            rows[column].append(name)
        chains[edge] = [edge[0], *passed, edge[1]]
    return chains, rows


def _sorted(rows: list[list[str]], links: Sequence[Edge]) -> list[list[str]]:
    """Sort columns by their neighbours, to and fro, and return the best that was found."""
    left, right = _neighbours(links)
    best, fewest = [list(row) for row in rows], crossings(rows, links)
    for sweep in range(SWEEPS if fewest else 0):
        forth = sweep % 2 == 0
        for number in range(1, len(rows)) if forth else range(len(rows) - 2, -1, -1):
            beside = {node: at for at, node in enumerate(rows[number - 1 if forth else number + 1])}
            near = left if forth else right
            _sort(rows[number], {node: [beside[each] for each in near.get(node, ())] for node in rows[number]})
        found = crossings(rows, links)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _sort(row: list[str], near: Mapping[str, list[int]]) -> None:
    """Sort by the mean of the neighbours' places; what has none stays where it is."""
    free = [at for at, node in enumerate(row) if near[node]]
    wanted = sorted((row[at] for at in free), key=lambda node: sum(near[node]) / len(near[node]))
    for at, node in zip(free, wanted, strict=True):
        row[at] = node


def _neighbours(links: Sequence[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for start, end in links:
        right.setdefault(start, []).append(end)
        left.setdefault(end, []).append(start)
    return left, right


def _heights(all_nodes: Sequence[str], nodes: set[str], links: Sequence[Edge]) -> dict[str, float]:
    left, right = _neighbours(links)
    ports = {node: max(len(left.get(node, ())), len(right.get(node, ()))) for node in all_nodes}
    return {node: max(LEAST, PORT * (ports[node] + 1)) if node in nodes else 0.0 for node in all_nodes}


def _tops(rows: Sequence[Sequence[str]], heights: Mapping[str, float], links: Sequence[Edge]) -> dict[str, float]:
    """Move what is in order toward the middle of its neighbours."""
    left, right = _neighbours(links)
    tops: dict[str, float] = {}
    for row in rows:
        at = 0.0
        for node in row:
            tops[node] = at
            at += heights[node] + GAP
    for _ in range(SWEEPS):
        for row in rows:
            wanted: list[float] = []
            for node in row:
                near = [tops[each] + heights[each] / 2 for each in (*left.get(node, ()), *right.get(node, ()))]
                wanted.append(sum(near) / len(near) - heights[node] / 2 if near else tops[node])
            tops |= zip(row, _apart(wanted, [heights[node] + GAP for node in row]), strict=True)
    least = min(tops.values(), default=0.0)
    return {node: round(top - least, 1) for node, top in tops.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted, by least squares, in order and apart: pools of adjacent violators."""
    offsets = [sum(sizes[:number]) for number in range(len(sizes))]
    pools: list[tuple[float, int]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append((value - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, one), (b, other) = pools[-2:]
            pools[-2:] = [((a * one + b * other) / (one + other), one + other)]
    return [at + offset for at, offset in zip([at for at, n in pools for _ in range(n)], offsets, strict=True)]


def _sides(
    columns: Sequence[Sequence[str]], widths: Sequence[float], rows: Sequence[Sequence[str]], links: Sequence[Edge]
) -> list[tuple[float, float]]:
    """Return where columns begin, and how wide they are; more lines between two need more room."""
    number_of = {node: number for number, row in enumerate(rows) for node in row}
    sides: list[tuple[float, float]] = []
    at = 0.0
    for number, column in enumerate(columns):
        count = sum(number_of[start] == number for start, _ in links)
        width = widths[number] if column else 0.0
        sides.append((at, width))
        at += width + (min(190.0, max(80.0, 60 + 2.5 * count)) if column else 0.0)
    return sides


def _ports(links: Sequence[Edge], boxes: Mapping[str, Box]) -> dict[Edge, tuple[float, float]]:
    """Give each link a height at either end, in the order in which the other ends stand."""
    middle = {node: box.y + box.height / 2 for node, box in boxes.items()}
    starts: dict[str, list[Edge]] = {}
    ends: dict[str, list[Edge]] = {}
    for link in links:
        starts.setdefault(link[0], []).append(link)
        ends.setdefault(link[1], []).append(link)
    outs = {link: at for node, each in starts.items() for link, at in _spread(boxes[node], each, 1, middle)}
    ins = {link: at for node, each in ends.items() for link, at in _spread(boxes[node], each, 0, middle)}
    return {link: (outs[link], ins[link]) for link in links}


def _spread(box: Box, links: list[Edge], other: int, middle: Mapping[str, float]) -> list[tuple[Edge, float]]:
    ordered = sorted(links, key=lambda link: (middle[link[other]], link))
    first = box.y + box.height / 2 - min(PORT, box.height) * (len(ordered) - 1) / 2
    return [(link, round(first + number * min(PORT, box.height), 1)) for number, link in enumerate(ordered)]


def _through(chain: Sequence[str], boxes: Mapping[str, Box], ports: Mapping[Edge, tuple[float, float]]) -> list[Point]:
    points: list[Point] = []
    for start, end in pairwise(chain):
        out, into = ports[start, end]
        points += [(boxes[start].x + boxes[start].width, out), (boxes[end].x, into)]
    return points
