"""The check against history finds what a program cannot read or fold, in whatever log, and nothing else."""

import asyncio
import math
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

import apsw
import pytest

from refold import (
    App,
    Event,
    InvalidQuery,
    Metadata,
    NewEvent,
    Projection,
    Row,
    Rows,
    State,
    Tag,
    WiringError,
)
from refold.contract import found as findings
from refold.contract import history, reading
from refold.contract.found import Found, Program, estimate, hash_of
from refold.contract.history import check_history
from refold.contract.reading import Range, work
from refold.store.open import open_store
from refold.testing.postgres import PostgresServer
from tests.model.test_upcast import SCHEMA, UPCASTERS, Balance, Deposited, PaidIn, TransferredV1, Withdrawn, stored
from tests.runtime.test_upcast import OLD, Book, Dated, Paid, Turnover, some_events

BROKEN: set[str] = set()


class Shaky(State):
    account: Annotated[str, Tag("account")]
    entries: int = 0

    def evolve(self, event: Withdrawn | Deposited, metadata: Metadata) -> Self:
        if self.account == "c" and self.entries == 2:
            raise ValueError(f"{self.account} is broken")
        return self.replace(entries=self.entries + 1)


class Big(State):
    account: Annotated[str, Tag("account")]
    number: float = 0

    def evolve(self, event: Deposited) -> Self:
        return self.replace(number=math.nan if event.account == "b" else 1)


class Line(Row):
    account: Annotated[str, Tag("account")]
    number: int = 0


class Lines(Projection):
    rows = (Line,)

    def apply(self, event: Deposited, rows: Rows) -> None:
        if event.account == "d":
            raise KeyError(event.account)
        rows.put(Line(event.account, 1))


def app(url: str, *views: Any) -> App:
    return App(url, events=[Withdrawn, Deposited], upcasters=UPCASTERS, projections=views or VIEWS)


VIEWS = [Balance, Paid, Dated, Turnover, Book]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(f"history{hash_of(str(tmp_path))}")


async def fill(url: str, seed: int, count: int) -> list[Event]:
    events = some_events(seed, count)
    async with App(url, events=OLD) as old:
        for start in range(0, count, 100):
            await old.record(*events[start : start + 100])
    return events


async def test_a_history_that_can_be_read_passes_and_is_counted(url: str) -> None:
    events = await fill(url, 1, 300)
    found = await check_history(app(url).program, url)
    assert (found.head, found.events, found.failed, found.failures) == (300, 300, 0, ())
    assert sum(each.events for each in found.types) == sum(each.decoded for each in found.types) == 300
    becomes = {(each.type, each.version): each.becomes for each in found.types}
    assert becomes["Transferred", 1] == ("Deposited", "Withdrawn")
    assert becomes["Reconciled", 1] == ()
    new = [each for event in events for each in SCHEMA.decode(stored(event))]
    of = {each.name: (each.keys, each.events) for each in found.folded}
    assert of["Balance"] == of["Dated"] == (5, len(new))
    assert of["Turnover"] == (1, len(new))
    assert of["Paid"] == (5, sum(isinstance(each, Deposited) for each in new))
    assert of["Book"][0] == len(new)
    some = await check_history(app(url).program, url, keys=2, sample=10)
    of = {each.name: (each.keys, each.events) for each in some.folded}
    assert of["Balance"][0] == 2 < of["Balance"][1] < len(new)
    assert of["Turnover"] == (1, len(new))
    assert some.left_out
    assert all(min(each.events, 10) / 3 <= each.decoded <= each.events for each in some.types)


async def test_what_fails_is_told_by_position_with_its_bytes_and_what_to_do(url: str) -> None:
    async with App(url, events=[*OLD]) as old:
        await old.record(TransferredV1("a", "b", 500), PaidIn("c", 1), Deposited("c", Decimal(1), "EUR"))
    log = await open_store(url)
    await log.append([NewEvent("PaidIn", b'{"account":"e"}', ("account:e",)), NewEvent("Gone", b"\xff\x00", ("x:y",))])
    await log.append([NewEvent("Deposited", b'{"account":"a"}', ("account:a",), version=2)])
    await log.append(
        [SCHEMA.encode(Withdrawn("c", Decimal(1), "EUR")), SCHEMA.encode(Withdrawn("c", Decimal(1), "EUR"))]
    )
    await log.append([SCHEMA.encode(Deposited("d", Decimal(1), "EUR"))])
    await log.close()
    for workers in (1, 2):
        found = await check_history(app(url, Shaky, Big, Lines).program, url, workers=workers)
        told = [(each.position, each.type, each.version, each.what) for each in found.failures]
        assert told == [
            (4, "PaidIn", 1, "decode"),
            (5, "Gone", 1, "decode"),
            (6, "Deposited", 2, "decode"),
            (7, "Withdrawn", 1, "Shaky account:c"),
            (9, "", 0, "Big account:b"),
            (9, "Deposited", 1, "Lines account:d"),
        ]
        assert found.failed == 6
        first, gone, newer, folded, row, applied = found.failures
        assert "missing required field `cents`" in first.error
        assert first.data == '{"account":"e"}'
        assert first.tags == ("account:e",)
        assert gone.data == "\\xff\x00"
        assert "keep its class, `@stored_as('Gone', version=1)`, with an upcaster" in gone.todo
        assert "is a Deposited version 2, but this program knows version 1" in newer.error
        assert folded.error == "ValueError('c is broken')"
        assert folded.todo == "mend Shaky.evolve for it, or what makes this Withdrawn of what is stored"
        assert "nan cannot be kept" in row.error
        assert applied.error == "KeyError('d')"
        failed = {each.name: each.failed for each in found.folded}
        assert failed == {"Shaky": 1, "Big": 1, "Lines": 1}


async def test_only_the_first_failures_are_told_and_all_are_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    log = await open_store(url)
    await log.append([NewEvent("Gone", b"{}")] * 500)
    await log.close()
    found = await check_history(Program((Withdrawn, Deposited), tuple(UPCASTERS)), url)
    assert found.failed == 500
    assert [each.position for each in found.failures] == list(range(1, findings.FAILURES + 1))


async def test_shares_fold_what_one_pass_folds_and_hold_less(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(url, 2, 200)
    program = app(url, Balance, Paid, Dated).program
    whole = await check_history(program, url)
    monkeypatch.setattr(history, "STATES_IN_A_SHARE", 4)
    tasks: list[Any] = []
    monkeypatch.setattr(history, "work", spying(tasks))
    shared = await check_history(program, url)
    assert len([each for each in tasks if isinstance(each, reading.Share)]) == 4, "five accounts in three states"
    assert shared.folded == whole.folded


def spying(tasks: list[Any]) -> Any:
    async def spy(program: Program, url: str, task: Any, *moved: Any) -> Found:
        tasks.append(task)
        return await work(program, url, task, *moved)

    return spy


async def test_the_number_of_keys_is_estimated_and_their_sample_is_even(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    log = await open_store(url)
    count = 20_000
    for start in range(0, count, 5_000):
        keys = [f"account:k-{number:07}" for number in range(start, start + 5_000)]
        await log.append([NewEvent("Paid", b"{}", (key,)) for key in keys])
    await log.close()
    found = await work(Program((Withdrawn, Deposited), states=(Balance,)), url, Range(0, count, None, 512))
    sample = found.keys["account"]
    assert len(sample) == 512
    assert 0.85 * count < estimate(sample) < 1.15 * count
    numbers = sorted(int(tag.rpartition("-")[2]) for tag in sample.values())
    for quarter in range(4):
        inside = sum(quarter * count // 4 <= number < (quarter + 1) * count // 4 for number in numbers)
        assert 80 < inside < 180


async def test_it_writes_nothing_and_may_run_while_the_app_does(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    await fill(url, 3, 100)

    def contents() -> list[Any]:
        connection = apsw.Connection(str(tmp_path / "log.db"))
        names = [str(name) for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        found = [(name, connection.execute(f'select count(*) from "{name}"').fetchall()) for name in sorted(names)]
        connection.close()
        return found

    before = contents()
    await check_history(app(url).program, url)
    assert contents() == before
    async with App(url, events=OLD) as busy:

        async def write() -> None:
            for number in range(200):
                await busy.record(Deposited("z", Decimal(number), "EUR"))

        writing = asyncio.create_task(write())
        found = await check_history(app(url).program, url)
        await writing
    assert found.failed == 0
    assert 100 <= found.head <= 300
    assert found.events == found.head, "as of its beginning"


async def test_what_cannot_be_asked_is_told(tmp_path: Path) -> None:
    class Local(Event):
        account: str

    url = f"sqlite:///{tmp_path}/log.db"
    await fill(url, 4, 10)
    with pytest.raises(WiringError, match=r"cannot be sent to workers .* or check with one worker"):
        await check_history(Program((Local,)), url, workers=2)
    for options in ({"workers": 0}, {"sample": 0}, {"keys": -1}):
        with pytest.raises(InvalidQuery, match="workers and sample are at least 1"):
            await check_history(Program((Withdrawn, Deposited)), url, **options)


async def test_progress_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    await fill(url, 5, 50)
    moves: list[tuple[int, int, str]] = []
    await check_history(app(url).program, url, move=lambda *move: moves.append(move))
    assert moves[0] == (50, 50, "decoding and folding")
    assert moves[-1] == (1, 1, "folding")
    moves.clear()
    await check_history(app(url).program, url, move=lambda *move: moves.append(move), keys=3)
    assert moves[0] == (50, 50, "decoding")
    assert moves[-1] == (2, 2, "folding")
