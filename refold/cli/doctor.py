"""`refold doctor`: whether everything is set up as it should be, and if not, what to do."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import msgspec
from msgspec.structs import replace

from refold.app import App
from refold.cli.app import JSON, STORE, loaded
from refold.cli.checkup import HIDDEN, Found, of_file, of_keys, of_programs, secrets_of
from refold.contract.compare import compare
from refold.contract.lock import NAME, read, written
from refold.errors import NotKept, RefoldError, StoreTooOld, hidden
from refold.runtime.diagnose import SEVERITIES, Diagnosis, diagnose

OPEN_SECONDS = 5.0
"""How long a log may take to be opened; an app waits longer, in case its server comes back."""
AHEAD_SECONDS = 5.0
"""How far the log's last time may be ahead of this machine's."""
COLOURS = {"critical": "red", "warning": "yellow", "info": "cyan"}


@click.command()
@click.argument("app", required=False)
@click.option(
    "--keys", "keys", type=click.Path(path_type=Path, dir_okay=False), default=Path("keys.json"), show_default=True
)
@STORE
@JSON
def doctor(app: str | None, keys: Path, store: str | None, *, as_json: bool) -> None:
    r"""Check the set-up, and that of APP: what is found, and for each finding what to do.

    Without APP nothing is connected to. With it the log is looked into; nothing is written, and nothing of APP runs.
    Exits with 1 if there is a finding that somebody has to see to. No password is shown.

    \b
      refold doctor
      refold doctor shop.main:app
      refold doctor shop.main:app --json | jq -r '.findings[].command'
    """
    found = [*of_programs(), *of_keys(keys)]
    secrets: list[str] = secrets_of(store or "")
    if app is not None:
        made = _app(app, store)
        if isinstance(made, App):
            secrets += secrets_of(made.address)
            found += [("app", f"{app} is wired well"), *_of_log(made), *_of_lock(app, made)]
            if urlsplit(made.address).scheme != "memory":
                found += asyncio.run(_running(app, made))
        else:
            found.append(made)
    fine = [(name, _without(said, secrets)) for name, said in (each for each in found if isinstance(each, tuple))]
    findings = [_safe(each, secrets) for each in found if isinstance(each, Diagnosis)]
    findings.sort(key=lambda each: SEVERITIES.index(each.severity))
    if as_json:
        told: dict[str, Any] = {"fine": [{"about": name, "found": said} for name, said in fine], "findings": findings}
        click.echo(msgspec.json.encode(told).decode())
    else:
        _show(fine, findings)
    sys.exit(1 if any(each.severity != "info" for each in findings) else 0)


def _app(app: str, store: str | None) -> App | Diagnosis:
    """Return the app, or why it cannot be made."""
    try:
        return loaded(app, store)
    except click.UsageError as error:
        return Diagnosis("NO_APP", "critical", "There is no such app", error.message, f"refold check {app}")
    except RefoldError as error:
        return Diagnosis("WIRING", "critical", "The app is put together wrongly", str(error), f"refold check {app}")
    except Exception as error:
        said = f"{type(error).__name__} when it is imported: {error}"
        return Diagnosis("IMPORT", "critical", "The app cannot be imported", said, f"python -c 'import {_module(app)}'")


def _module(app: str) -> str:
    return app.partition(":")[0]


def _of_log(app: App) -> Iterator[Found]:
    """Look at where the log is, without opening it."""
    if not app.address:
        yield "log", "in a store that the app was given"
        return
    yield "log", hidden(app.address)
    parts = urlsplit(app.address)
    if parts.scheme == "memory":
        said = "what happens is gone when the process ends"
        yield Diagnosis("IN_MEMORY", "info", "The log is in memory", said, "refold new --help")
    elif parts.scheme == "sqlite":
        path = Path(unquote(parts.path[1:]))
        yield from of_file(path)
        if "relaxed" in parts.query:
            said = "durability=relaxed: a power cut may take the last commits back"
            yield Diagnosis("RELAXED", "info", "Power cuts cost commits", said, "refold doctor --help")


def _of_lock(name: str, app: App) -> Iterator[Found]:
    """Compare the app with the lock beside it."""
    path = Path(NAME)
    if not path.exists():
        said = f"{path} is not here, so nothing tells that a change breaks what is stored"
        yield Diagnosis("NO_LOCK", "info", "The contract is not locked", said, f"refold contract lock {name}")
        return
    command = f"refold contract check {name}"
    try:
        before, now = read(path), app.contract()
    except RefoldError as error:
        yield Diagnosis("LOCK_UNREADABLE", "warning", "The lock cannot be read", str(error), command)
        return
    breaking = [each for each in compare(before, now) if each.fails("backward")]
    if breaking:
        first = breaking[0]
        said = f"{len(breaking)} changes; {first.kind} {first.about} {first.said}"
        yield Diagnosis("CONTRACT_BROKEN", "warning", "The code does not read what is stored", said, command)
    elif written(before) != written(now):
        said = "the code has changed, and breaks nothing"
        yield Diagnosis("LOCK_OUTDATED", "info", "The lock is out of date", said, f"refold contract lock {name}")
    else:
        yield "contract", f"as {path} has it"


async def _running(name: str, app: App) -> list[Found]:
    """Look into the log, and at how everything stands."""
    parts = urlsplit(app.address)
    command = f"pg_isready --host={parts.hostname} --port={parts.port or 5432}" if parts.hostname else "ls -la"
    title = "The log cannot be opened"
    try:
        async with AsyncExitStack() as exits:
            async with asyncio.timeout(OPEN_SECONDS):
                running = await exits.enter_async_context(app.passive(create=False))
            head = await running.head()
            found: list[Found] = [("log", f"{head:,} positions, and this Refold reads it")]
            async for recorded in running.operations.events(after=max(head - 1, 0)):
                found += _clock(recorded.recorded_at)
            return [*found, *(_never_run(each, name) for each in await diagnose(running.operations, name))]
    except TimeoutError:
        return [Diagnosis("UNREACHABLE", "critical", title, f"nobody answered in {OPEN_SECONDS:g} s", command)]
    except StoreTooOld as error:
        command = f"refold store migrate --store '{hidden(app.address)}'"
        return [Diagnosis(error.code, "warning", "The log is of an older Refold", str(error), command)]
    except RefoldError as error:
        if error.data.get("absent"):
            return [("log", "is not there yet; the app makes it when it starts")]
        return [Diagnosis(error.code, "critical", title, str(error), command)]


def _never_run(diagnosis: Diagnosis, name: str) -> Diagnosis:
    """Say of a log on which an app has not run yet just that: its events can be read well."""
    if not diagnosis.cause.startswith(NotKept.code):
        return diagnosis
    said = "its events can be read, but nothing keeps views or reacts to them yet"
    return Diagnosis("NEVER_RUN", "warning", "The app has not run on this log yet", said, f"refold run {name}")


def _clock(last: datetime) -> list[Found]:
    seconds = (last - datetime.now(UTC)).total_seconds()
    if seconds > AHEAD_SECONDS:
        said = f"the last event was recorded {seconds:,.0f} s from now"
        return [Diagnosis("CLOCK_BEHIND", "warning", "The clock of this machine is behind", said, "timedatectl")]
    return [("clock", "not behind the log")]


def _safe(diagnosis: Diagnosis, secrets: list[str]) -> Diagnosis:
    texts = {name: _without(getattr(diagnosis, name), secrets) for name in ("title", "cause", "command", "about")}
    return replace(diagnosis, **texts)


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _show(fine: list[tuple[str, str]], findings: list[Diagnosis]) -> None:
    from refold.cli.show import cleaned

    for name, said in fine:
        click.echo(f"{click.style('fine', fg='green')}      {name}: {cleaned(said)}")
    for each in findings:
        mark = click.style(f"{each.severity:<8}", fg=COLOURS[each.severity], bold=True)
        click.echo(f"{mark}  {cleaned(each.title)} [{each.id}]")
        click.echo(f"          {cleaned(each.cause)}")
        click.echo(f"          {click.style('$', dim=True)} {cleaned(each.command)}")
    bad = sum(each.severity != "info" for each in findings)
    click.echo(f"{bad} to see to" if bad else "nothing to see to")
