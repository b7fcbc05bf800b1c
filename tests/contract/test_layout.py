"""Boxes do not touch, lines go to the right and have places of their own, and few of them cross."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from examples.shop.main import make_app, make_selling
from refold.contract.graph import COLUMNS, graph_of
from refold.contract.layout import GAP, crossings, laid_out

SIZES = st.lists(st.integers(0, 7), min_size=2, max_size=5)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[str]], list[tuple[str, str]]]:
    columns = [[f"{column}.{row}" for row in range(size)] for column, size in enumerate(draw(SIZES))]
    pairs = [
        (start, end)
        for at, column in enumerate(columns)
        for start in column
        for after in columns[at + 1 :]
        for end in after
    ]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    return columns, edges


@given(graphs())
def test_boxes_are_apart_and_lines_lead_from_one_to_the_other(
    graph: tuple[list[list[str]], list[tuple[str, str]]],
) -> None:
    columns, edges = graph
    layout = laid_out(columns, [100.0] * len(columns), edges)
    assert set(layout.boxes) == {node for column in columns for node in column}
    for column in columns:
        boxes = sorted((layout.boxes[node] for node in column), key=lambda box: box.y)
        assert all(upper.y + upper.height + GAP - 0.2 <= lower.y for upper, lower in pairwise(boxes))
        assert all(box.y >= 0 and box.y + box.height <= layout.height for box in boxes)
    for (start, end), points in layout.lines.items():
        assert points[0][0] == layout.boxes[start].x + 100
        assert points[-1][0] == layout.boxes[end].x
        assert all(a[0] <= b[0] for a, b in pairwise(points))
        for point, box in ((points[0], layout.boxes[start]), (points[-1], layout.boxes[end])):
            assert box.y < point[1] < box.y + box.height
    ends = [("out", *points[0]) for points in layout.lines.values()]
    ends += [("in", *points[-1]) for points in layout.lines.values()]
    assert len(set(ends)) == len(ends)


def test_lines_leave_a_box_in_the_order_in_which_they_arrive() -> None:
    for make in (make_selling, make_app):
        graph = graph_of(make("memory:").contract())
        rows = [[node.id for node in graph.nodes if node.column == at] for at in range(len(COLUMNS))]
        layout = laid_out(rows, [100.0] * len(rows), graph.edges)
        for node in layout.boxes:
            leaving = sorted((points[0][1], points[1][1]) for edge, points in layout.lines.items() if edge[0] == node)
            coming = sorted((points[-1][1], points[-2][1]) for edge, points in layout.lines.items() if edge[1] == node)
            for ends in (leaving, coming):
                assert [other for _, other in ends] == sorted(other for _, other in ends)


def test_crossings_are_counted() -> None:
    rows = [["a", "b"], ["c", "d"]]
    assert crossings(rows, [("a", "c"), ("b", "d")]) == 0
    assert crossings(rows, [("a", "d"), ("b", "c")]) == 1
    assert crossings(rows, [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]) == 1


def test_what_can_be_untangled_is() -> None:
    columns = [[f"a{n}" for n in range(8)], [f"b{n}" for n in range(8)]]
    edges = [(f"a{n}", f"b{7 - n}") for n in range(8)]
    layout = laid_out(columns, [50, 50], edges)
    assert all(abs(points[0][1] - points[-1][1]) < 1 for points in layout.lines.values())


def test_the_shop_can_be_followed() -> None:
    """Of its lines between events and what follows them few cross; sorted by name they cross more often by far."""
    for make in (make_selling, make_app):
        graph = graph_of(make("memory:").contract())
        rows = [[node.id for node in graph.nodes if node.column == at] for at in range(len(COLUMNS))]
        layout = laid_out(rows, [100.0] * len(rows), graph.edges)
        drawn = [sorted(row, key=lambda node: layout.boxes[node].y) for row in rows]
        assert crossings(drawn, graph.edges) < crossings(rows, graph.edges) / 2
