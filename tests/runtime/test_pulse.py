"""The pulse of an app goes on, whatever it sees."""

import asyncio

import pytest

from refold.runtime import pulse
from refold.runtime.diagnose import Seen
from refold.runtime.instruments import Figures
from refold.runtime.pulse import Pulse


async def test_it_goes_on_after_what_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "FRESH_SECONDS", 0.0)
    looks: list[int] = []

    async def look() -> Seen:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("odd")
        return Seen()

    async def head() -> int:
        return 7

    beating = Pulse(look, head, Figures())
    beating.start()
    async with asyncio.timeout(60):
        while not beating.beats:
            await asyncio.sleep(0.01)
    await beating.stop()
    assert beating.head == 7
    assert "how the app stands could not be seen" in caplog.text
