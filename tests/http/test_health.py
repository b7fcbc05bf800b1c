"""Whether an app can do its work: anybody may ask, and learns no more than that."""

import logging
from typing import Annotated, Self

import pytest

from refold import App, Event, State, SubscriptionFailed, Tag
from refold.runtime import parking
from tests.http.serving import served


class Counted(Event):
    sku: Annotated[str, Tag("product")]


class Secrets(State):
    sku: Annotated[str, Tag("product")]

    def evolve(self, event: Counted) -> Self:
        raise RuntimeError("the password is geheim")


async def test_it_is_said_how_many_have_stopped_and_not_which(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "refold.subscription")
    monkeypatch.setattr(parking, "MOST", 0)
    app = App("memory:", events=Counted, decisions=[], projections=[Secrets])
    async with served(app) as client:
        assert (await client.get("/ready")).json() == {"status": "ready"}
        at = await app.record(Counted("tea"))
        with pytest.raises(SubscriptionFailed):
            await app.wait(at + 1)
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "why": "SUBSCRIPTION_FAILED", "stopped": 1}
