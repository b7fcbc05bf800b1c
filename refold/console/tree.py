"""A tree of causes as an SVG: from what began it at the left to what came of it at the right."""

from collections.abc import Callable, Mapping

from refold.contract.layout import Box, Point, laid_out
from refold.contract.markup import Markup, element
from refold.runtime.causes import Cause, Causes

MOST = 600
"""How many nodes are drawn; more are listed only."""
DEEPEST = 60
"""How many columns are drawn."""
LETTER = 7.6
SMALL = 5.8
"""How wide letters are, about."""
LONGEST = 30
MARGIN = 14.0


def can_be_drawn(causes: Causes) -> bool:
    """Tell whether a tree is not too large for a picture."""
    return len(causes.nodes) <= MOST and max((node.depth for node in causes.nodes), default=0) < DEEPEST


def drawn(causes: Causes, address: Callable[[Cause], str | None]) -> Markup:
    """Return the picture; `address` says where a node leads to."""
    nodes = {node.id: node for node in causes.nodes}
    columns: list[list[str]] = [[] for _ in range(max((node.depth for node in causes.nodes), default=0) + 1)]
    for node in causes.nodes:
        columns[node.depth].append(node.id)
    widths = [max(_width(nodes[each]) for each in column) for column in columns]
    layout = laid_out(columns, widths, [(node.parent, node.id) for node in causes.nodes if node.parent])
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    name = f"What led to position {causes.position}, and what came of it"
    return element(
        "svg",
        element("title", name),
        element(
            "g",
            (_line(edge, points, nodes) for edge, points in layout.lines.items()),
            (_box(node, layout.boxes[node.id], address(node), causes.position) for node in causes.nodes),
            transform=f"translate({_n(MARGIN)} {_n(MARGIN)})",
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        width=_n(width),
        height=_n(height),
        class_="tree",
        role="group",
        aria_label=name,
    )


def label_of(node: Cause) -> str:
    """Return what stands for a node, in a few words."""
    if node.kind == "elsewhere":
        return f"from {node.by}" if node.by else "not in this log"
    return node.name or (node.by if node.kind != "command" else "without a name")


def note_of(node: Cause) -> str:
    """Return what is said of a node below its name."""
    match node.kind:
        case "event":
            return f"event {node.position}"
        case "command":
            by = node.by if node.by not in ("", "call") else node.actor
            return f"command by {by}" if by else "command"
        case "waiting":
            return f"timer {node.by}, {'overdue' if node.is_stuck else 'waits'}"
        case "elsewhere":
            return node.name
        case "failed" | "skipped":
            return f"timer {node.by}, {node.kind}" if node.name else node.kind


def _width(node: Cause) -> float:
    return max(90.0, len(_cut(label_of(node))) * LETTER + 22, len(_cut(note_of(node))) * SMALL + 22)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _box(node: Cause, box: Box, link: str | None, asked: int) -> Markup:
    middle, center = box.y + box.height / 2, box.x + box.width / 2
    said = f"{note_of(node)}: {node.trouble}" if node.trouble else note_of(node)
    parts = [
        element("title", f"{label_of(node)}, {said}"),
        element("rect", x=_n(box.x), y=_n(box.y), width=_n(box.width), height=_n(box.height), rx=6),
        element("text", _cut(label_of(node)), x=_n(center), y=_n(middle - 0.5), text_anchor="middle"),
        element("text", _cut(note_of(node)), class_="kind", x=_n(center), y=_n(middle + 11), text_anchor="middle"),
    ]
    is_asked = node.kind == "event" and node.position == asked
    names = f"node {node.kind}{' stuck' if node.is_stuck else ''}{' asked' if is_asked else ''}"
    if link is None:
        return element("g", parts, class_=names)
    return element("a", parts, class_=names, href=link, aria_current="true" if is_asked else None)


def _line(edge: tuple[str, str], points: tuple[Point, ...], nodes: Mapping[str, Cause]) -> Markup:
    [(x1, y1), (x2, y2)] = points
    bend = (x2 - x1) / 2
    path = f"M{_n(x1)} {_n(y1)}C{_n(x1 + bend)} {_n(y1)} {_n(x2 - bend)} {_n(y2)} {_n(x2)} {_n(y2)}"
    return element("path", d=path, class_=f"edge to-{nodes[edge[1]].kind}")


def _n(value: float) -> str:
    return f"{round(value, 1):g}"
