"""What operators do, as events: every app can store and read these, without listing them.

They are no part of what an app stores on its own account: its contract, lock and published events leave them out.
"""

from typing import Annotated, TypeAlias

from refold.model.message import Event, stored_as
from refold.model.tag import Tag

Operator: TypeAlias = Annotated[str, Tag("operator")]
Operated: TypeAlias = Annotated[str, Tag("operated")]


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


@stored_as("refold.OperationFailed")
class OperationFailed(Event):
    """What an operator did has failed, or was interrupted; `causation_id` is the id of the event that says what."""

    action: str
    about: Operated
    error: str
    actor: Operator | None = None


BUILT_IN: tuple[type[Event], ...] = (OperatorActed, OperationFailed)
