"""The graph of a contract as an SVG: by itself, or as a part of a page, whose script then shows what goes with what."""

from collections.abc import Iterable

from refold.contract.graph import COLUMNS, Graph, Node
from refold.contract.layout import Box, Layout, Point, laid_out
from refold.contract.markup import Markup, element, trusted

LETTER = 7.8
"""How wide a letter of a label is, about."""
LONGEST = 32
MARGIN = 16.0
HEAD = 34.0
STYLE = """
.ground { fill: #ffffff } .node text { fill: #1c2530; font-size: 13px } .node .kind { fill: #5b6875; font-size: 10px }
.node rect { stroke-width: 1.2 } .head { fill: #5b6875; font-size: 12px }
.edge { fill: none; stroke-width: 1.4; opacity: .75 }
.command rect { fill: #e3edfb; stroke: #4a7fc1 } .event rect { fill: #fdf0d5; stroke: #c08a1e }
.projection rect { fill: #def1e4; stroke: #43885e } .process rect { fill: #ece5f9; stroke: #7d5bbe }
.effect rect { fill: #fbe3e8; stroke: #bd4d68 }
.inbox rect, .outbox rect, .published rect { fill: #e6eaee; stroke: #6b7a89 }
.node.again rect { stroke-dasharray: 4 3 } .node:hover rect, .node:focus-visible rect, .lit rect { stroke-width: 2.4 }
.from-command { stroke: #4a7fc1 } .to-projection { stroke: #43885e } .to-process { stroke: #7d5bbe }
.to-effect { stroke: #bd4d68 } .to-outbox, .to-published, .from-inbox { stroke: #6b7a89 }
.from-process { stroke: #7d5bbe } .from-effect { stroke: #bd4d68 }
.diagram.asked .node:not(.lit) { opacity: .25 } .diagram.asked .edge:not(.lit) { opacity: .08 }
.edge.lit { stroke-width: 2.2; opacity: 1 }
@media (prefers-color-scheme: dark) {
.ground { fill: #12171d } .node text { fill: #e6eaee } .node .kind, .head { fill: #9aa7b4 }
.command rect { fill: #182a42; stroke: #6ea3e6 } .event rect { fill: #3a2d10; stroke: #d9a63c }
.projection rect { fill: #15301f; stroke: #64b083 } .process rect { fill: #2a2040; stroke: #a68ae0 }
.effect rect { fill: #3d1b25; stroke: #e07f98 }
.inbox rect, .outbox rect, .published rect { fill: #232b33; stroke: #94a3b2 }
.from-command { stroke: #6ea3e6 } .to-projection { stroke: #64b083 } .to-process, .from-process { stroke: #a68ae0 }
.to-effect, .from-effect { stroke: #e07f98 } .to-outbox, .to-published, .from-inbox { stroke: #94a3b2 }
}
""".strip()


def diagram(graph: Graph, name: str, *, alone: bool) -> Markup:
    """Return the SVG; `alone` with its own colours and ground, else with those of the page."""
    rows = [[node.id for node in graph.nodes if node.column == number] for number in range(len(COLUMNS))]
    layout = laid_out(rows, [_width(graph, number) for number in range(len(COLUMNS))], graph.edges)
    width, height = layout.width + 2 * MARGIN, layout.height + HEAD + 2 * MARGIN
    kinds = {node.id: node for node in graph.nodes}
    parts = [
        element("title", f"Who emits and who follows what in {name}"),
        element("style", trusted(STYLE)) if alone else None,
        element("rect", class_="ground", width=_n(width), height=_n(height), rx=10) if alone else None,
        element(
            "g",
            _heads(layout),
            (_line(edge, points, kinds) for edge, points in layout.lines.items()),
            (_box(node, layout.boxes[node.id], linked=not alone) for node in graph.nodes),
            transform=f"translate({_n(MARGIN)} {_n(MARGIN)})",
        ),
    ]
    return element(
        "svg",
        parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        width=_n(width),
        height=_n(height),
        class_="diagram",
        font_family="ui-sans-serif, system-ui, sans-serif",
        role="img" if alone else "group",
        aria_label=f"Who emits and who follows what in {name}",
    )


def _width(graph: Graph, number: int) -> float:
    longest = max((len(_label(node)) for node in graph.nodes if node.column == number), default=0)
    return round(max(96.0, longest * LETTER + 24), 1)


def _label(node: Node) -> str:
    return node.label if len(node.label) <= LONGEST else f"{node.label[: LONGEST - 1]}…"


def _heads(layout: Layout) -> Iterable[Markup]:
    for name, (x, width) in zip(COLUMNS, layout.columns, strict=True):
        if width:
            yield element("text", name, class_="head", x=_n(x + width / 2), y=12, text_anchor="middle")


def _box(node: Node, box: Box, *, linked: bool) -> Markup:
    y = box.y + HEAD
    middle = y + box.height / 2
    of_a_kind = node.kind in ("projection", "process", "effect", "outbox", "inbox", "published")
    drawn = [
        element("title", f"{node.kind} {node.label}"),
        element("rect", x=_n(box.x), y=_n(y), width=_n(box.width), height=_n(box.height), rx=6),
        element(
            "text",
            _label(node),
            x=_n(box.x + box.width / 2),
            y=_n(middle + (-0.5 if of_a_kind else 4.5)),
            text_anchor="middle",
        ),
        element("text", node.kind, class_="kind", x=_n(box.x + box.width / 2), y=_n(middle + 11), text_anchor="middle")
        if of_a_kind
        else None,
    ]
    again = " again" if node.column == 4 and node.kind == "command" else ""
    if linked:
        return element("a", drawn, href=f"#{node.about}", class_=f"node {node.kind}{again}", data_node=node.id)
    return element("g", drawn, class_=f"node {node.kind}{again}")


def _line(edge: tuple[str, str], points: tuple[Point, ...], kinds: dict[str, Node]) -> Markup:
    drawn = ""
    for number in range(0, len(points), 2):
        (x1, y1), (x2, y2) = points[number : number + 2]
        bend = (x2 - x1) / 2
        begin = f"M{_n(x1)} {_n(y1 + HEAD)}" if number == 0 else f"L{_n(x1)} {_n(y1 + HEAD)}"
        drawn += f"{begin}C{_n(x1 + bend)} {_n(y1 + HEAD)} {_n(x2 - bend)} {_n(y2 + HEAD)} {_n(x2)} {_n(y2 + HEAD)}"
    start, end = kinds[edge[0]], kinds[edge[1]]
    names = f"edge from-{start.kind} to-{end.kind}"
    return element("path", d=drawn, class_=names, data_from=edge[0], data_to=edge[1])


def _n(value: float) -> str:
    return f"{round(value, 1):g}"
