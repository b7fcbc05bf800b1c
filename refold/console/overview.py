"""The overview: how the app is, at a glance; what is wrong with it, and what to do about that."""

import time
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response

from refold.console.charts import line
from refold.console.visit import Visit
from refold.errors import StoreError
from refold.http.access import Principal
from refold.http.call import answer
from refold.http.operations import WITHHELD, shown
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime.diagnose import Diagnosis, Seen, judged
from refold.runtime.pulse import MINUTES, Beat, Pulse, in_use
from refold.runtime.standing import Standing

SECONDS = MINUTES * 60.0
LATEST = 8
"""How many events are shown."""
FEW = 10.0
"""So many positions behind are nothing to be seen from afar."""
RATE_SECONDS = 10.0
"""Over how long the rate is taken that is said in figures."""


class Line(Struct, frozen=True):
    """How one projection or process stands, and stood."""

    standing: Standing
    trend: str
    """By how many positions it was behind in the last minutes, as points."""


async def show(visit: Visit) -> Response:
    """Show how far everything is; who sees a part only is shown what there is of that in the log."""
    app = visit.app
    found = await _latest(visit)
    now = datetime.now(UTC)
    if not visit.principal.sees_all:
        return visit.page("overview.html", latest=found, now=now, whole=None, head=await app.head())
    pulse = app.pulse
    pulse.start()
    seen = _shown(await pulse.beat(), visit.principal)
    diagnoses = judged(seen, visit.desk.address)
    used = in_use(seen.standing)
    beats, rates = list(pulse.beats), pulse.rates()
    return visit.page(
        "overview.html",
        latest=found,
        now=now,
        head=pulse.head,
        whole={
            "diagnoses": diagnoses,
            "health": health_of(diagnoses),
            "lines": [Line(each, trend_of(each.name, beats)) for each in used],
            "rate": rate_of(pulse),
            "rates": line(rates, time.time(), SECONDS, top=1.0),
            "parked": sum(each.parked for each in used),
            "oldest_parked": _ago(now, max((each.oldest_parked_seconds for each in used), default=0.0)),
            "behind": max((each.seconds_behind for each in used), default=0.0),
            "timers": sum(each.timers for each in seen.pending),
            "stuck": sum(each.stuck for each in seen.pending),
        },
    )


async def data(visit: Visit) -> Response:
    """Return the figures of the last minutes, for charts: times, events a second, and by how much each is behind."""
    pulse = visit.app.pulse
    pulse.start()
    await pulse.beat()
    beats, rates = list(pulse.beats), pulse.rates()
    names = sorted({name for beat in beats for name in beat.behind})
    return answer(
        {
            "at": [beat.at for beat in beats],
            "rate": [None, *(value for _, value in rates)][: len(beats)],
            "behind": {name: [beat.behind.get(name, (None, None))[0] for beat in beats] for name in names},
        }
    )


def rate_of(pulse: Pulse) -> float:
    """Return by how many positions a second the log grew in the last seconds."""
    last = pulse.beats[-1].at if pulse.beats else 0.0
    recent = [each for each in pulse.beats if last - each.at <= RATE_SECONDS]
    if len(recent) < 2:
        return 0.0
    return max(recent[-1].head - recent[0].head, 0) / (recent[-1].at - recent[0].at)


def trend_of(name: str, beats: list[Beat]) -> str:
    """Return by how much one was behind, as points of a line."""
    points = [(beat.at, beat.behind[name][0]) for beat in beats if name in beat.behind]
    return line(points, time.time(), SECONDS, top=FEW)


def health_of(diagnoses: list[Diagnosis]) -> tuple[str, str]:
    """Return how the app is in a word, and how that is coloured."""
    critical = sum(each.severity == "critical" for each in diagnoses)
    warnings = sum(each.severity == "warning" for each in diagnoses)
    if critical:
        return f"{critical} critical", "bad"
    return (f"{warnings} warning{'s' * (warnings > 1)}", "warn") if warnings else ("Healthy", "good")


def _shown(seen: Seen, principal: Principal) -> Seen:
    """Return how the app stands, as somebody is shown it: what is wrong is told of that."""
    if principal.can_be("operator"):
        return seen
    return replace(
        seen,
        standing=tuple(shown(seen.standing, principal)),
        pending=tuple(shown(seen.pending, principal)),
        stopped=dict.fromkeys(seen.stopped, WITHHELD),
    )


async def _latest(visit: Visit) -> list[StoredEvent]:
    query = visit.principal.seen(Query())
    try:
        return [stored async for page in visit.app.log.read(query, backwards=True, limit=LATEST) for stored in page]
    except StoreError:
        return []  # what is wrong with the log is said above


def _ago(now: datetime, seconds: float) -> datetime | None:
    return now - timedelta(seconds=seconds) if seconds else None
