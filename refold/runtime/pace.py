"""How fast what an app runs moves on."""

from collections import deque
from collections.abc import Mapping, Sequence

LOOKS = 21
"""How many positions are remembered of each: those of ten seconds, as an app looks about every half of one."""


class Pace:
    """The positions of the last seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=LOOKS)

    def note(self, now: float, positions: Mapping[str, int]) -> None:
        """Remember where everything stands."""
        self._looks.append((now, positions))

    def of(self, names: Sequence[str]) -> float:
        """Return how many positions a second the last of some, which share the work, has moved on; 0 if unknown."""
        looks = [
            (at, min(positions[name] for name in names)) for at, positions in self._looks if _has(positions, names)
        ]
        if len(looks) < 2 or looks[-1][0] <= looks[0][0]:
            return 0.0
        return max(looks[-1][1] - looks[0][1], 0) / (looks[-1][0] - looks[0][0])


def _has(positions: Mapping[str, int], names: Sequence[str]) -> bool:
    return bool(names) and all(name in positions for name in names)
