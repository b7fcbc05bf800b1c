"""What operators do, as events: every app can store and read these, without listing them.

They are no part of what an app stores on its own account: its contract, lock and published events leave them out.
"""

from typing import Annotated, TypeAlias

from refold.model.message import Event, stored_as
from refold.model.tag import Tag

Operator: TypeAlias = Annotated[str, Tag("operator")]
Operated: TypeAlias = Annotated[str, Tag("operated")]
PLACES = 5
"""How many positions people are told."""


@stored_as("refold.OperatorActed")
class OperatorActed(Event):
    """Somebody looks after the app: recorded before it is done, so that nothing is done without a record."""

    action: str
    """`retry`, `skip`, `rebuild`, as the method of `app.operations` is called."""
    about: Operated
    """The name of the projection, process, effect, inbox or state."""
    actor: Operator | None = None
    """None if a program does not say for whom it acts."""
    reason: str = ""
    positions: tuple[int, ...] = ()
    """Which parked events."""
    key: str = ""
    """What a process gives up."""
    version: str = ""
    """Of a projection."""
    after: int | None = None
    upto: int | None = None
    """Between which positions an effect is repeated, or events are published again."""

    @property
    def particulars(self) -> str:
        """What it is about more closely, for people: a key, a version, positions."""
        if self.upto is not None:
            return f"{(self.after or 0) + 1:,} to {self.upto:,}"
        places = ", ".join(map(str, self.positions[:PLACES]))
        more = f" and {len(self.positions) - PLACES:,} more" if len(self.positions) > PLACES else ""
        return self.key or self.version or f"{places}{more}"


@stored_as("refold.OperationFailed")
class OperationFailed(Event):
    """What an operator did has failed, or was interrupted; `causation_id` is the id of the event that says what."""

    action: str
    about: Operated
    error: str
    actor: Operator | None = None


BUILT_IN: tuple[type[Event], ...] = (OperatorActed, OperationFailed)
