"""Lines of charts as SVG has them: numbers only, so that a page shows them without a script."""

from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 120.0, 28.0
MOST_POINTS = 60
"""As many as a small line can show; of more, each is the mean of some."""


def line(points: Sequence[tuple[float, float]], now: float, seconds: float, *, top: float = 0.0) -> str:
    """Return `points` of a polyline 120 wide and 28 high: the last so many seconds until now, from right to left.

    The line reaches up to the highest value, or to `top` if that is higher.
    """
    recent = [each for each in points if now - each[0] <= seconds]
    found = list(_thinned(recent))
    most = max([top, *(value for _, value in found)])
    return " ".join(
        f"{WIDTH * (1 - (now - at) / seconds):.1f},{HEIGHT - 1 - (HEIGHT - 2) * (value / most if most else 0):.1f}"
        for at, value in found
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    size = -(-len(points) // MOST_POINTS) or 1
    for start in range(0, len(points), size):
        some = points[start : start + size]
        yield some[-1][0], sum(value for _, value in some) / len(some)
