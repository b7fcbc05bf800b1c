"""What came of a command: the events that were appended under its id."""

from refold.model.record import StoredEvent
from refold.store.api import Store


async def outcome(log: Store, id: str) -> list[StoredEvent]:
    """Return the events that a command with this id has given; none if it found nothing to do, or long ago."""
    done = await log.appended(id)
    if done is None:
        return []
    return [event async for page in log.read(after=done.first - 1, upto=done.last) for event in page]
