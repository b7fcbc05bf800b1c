"""`refold run`: how all stands is shown for as long as it runs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from refold.cli import run
from refold.errors import StoreBusy
from refold.runtime.operate import Operations
from refold.runtime.standing import Standing
from tests.runtime.bank import Balance, bank


@pytest.mark.parametrize("show", [run._lines, run._live])
async def test_a_passing_error_is_said_once_and_the_display_goes_on(
    show: Callable[[Operations, asyncio.Event], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop, standing = asyncio.Event(), Operations.standing

    def troubles() -> Iterator[bool]:
        yield from [False, True, True, False, True]
        stop.set()
        yield from iter(lambda: False, True)

    trouble = troubles()

    async def troubled(operations: Operations) -> list[Standing]:
        if next(trouble):
            raise StoreBusy("a moment of trouble")
        return await standing(operations)

    monkeypatch.setattr(Operations, "standing", troubled)
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.001)
    async with bank("memory:", projections=[Balance]) as app:
        await show(app.operations, stop)
    told = capsys.readouterr()
    assert told.err.count("how all stands cannot be told for now: [STORE_BUSY] a moment of trouble") == 2
    assert "Bal" in told.out
