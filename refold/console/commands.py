"""Commands: each as a form, decided for who has come in, and what came of it."""

import shlex
from collections.abc import Mapping

from starlette.responses import Response

from refold.console.form import Form
from refold.console.session import PREFIX
from refold.console.visit import Visit
from refold.contract.describe import CommandForm
from refold.errors import InvalidBody
from refold.http.call import found
from refold.http.commands import named
from refold.http.problem import Problem, problem_of
from refold.model.body import command_of
from refold.model.tag import tags_of
from refold.runtime.ids import new_id
from refold.runtime.outcome import outcome

WHEN = "occurred_at"


async def show(visit: Visit) -> Response:
    """Show the commands that may be given."""
    allowed = visit.principal.commands
    listed = [each for each in forms(visit).values() if allowed is None or each.name in allowed]
    askers = {each.name: _askers(visit, each.name) for each in listed}
    return visit.page("commands.html", commands=listed, askers=askers)


async def ask(visit: Visit) -> Response:
    """Show the form of a command, filled in with what stands in the address."""
    about = _about(visit)
    given = {name: value for name, value in visit.request.query_params.items() if name.startswith(("f.", "n."))}
    return _page(visit, about, Form(about.schema, given), given, new_id())


async def run(visit: Visit) -> Response:
    """Have a command decided, and go to what came of it; or show what does not fit, or why it was refused."""
    about, given = _about(visit), await visit.form()
    form = Form(about.schema, given)
    key = given.get("key") or new_id()
    if "add" in given or "cut" in given:
        given = form.changed()
        return _page(visit, about, Form(about.schema, given), given, key)
    try:
        body = form.json()
        visit.check_depth(body)
        command = command_of(body, found(about.name, named(visit.app.commands), "command"))
        visit.principal.must_command(about.name, tags_of(command))
        occurred_at = visit.read_moment("Occurred at", _moment(given))
        own = visit.id_of(about.name, key)
        position = await visit.app.execute(command, id=own, actor=visit.principal.name, occurred_at=occurred_at)
    except InvalidBody as error:
        form.tell(error.data["errors"])
        return _page(visit, about, form, given, key, status=400)
    except Exception as error:  # whatever it is, what was written is not lost
        problem = problem_of(error)
        return _page(visit, about, form, given, key, status=problem.status, problem=problem)
    return visit.go("commands", about.name, "outcomes", key, position=position)


async def came(visit: Visit) -> Response:
    """Show what came of a command: the events that it gave."""
    about, key = _about(visit), visit.path("key")
    events = await outcome(visit.app.log, visit.id_of(about.name, key))
    tags = visit.principal.tags
    seen = [event for event in events if tags is None or not tags.isdisjoint(event.tags)]
    return visit.page("outcome.html", command=about, events=seen, position=visit.number("position"))


def forms(visit: Visit) -> dict[str, CommandForm]:
    """Return what there is to say of each command, by name."""
    return {each.name: each for each in visit.desk.contract.commands}


def _askers(visit: Visit, name: str) -> list[str]:
    """Return the processes, effects and contexts that ask for a command themselves."""
    contract = visit.desk.contract
    followers = [each.name for each in contract.followers if name in each.emits]
    return [*followers, *(each.context for each in contract.taken if name in each.gives)]


def _about(visit: Visit) -> CommandForm:
    about, principal = found(visit.path("name"), forms(visit), "command"), visit.principal
    principal.must_command(about.name, principal.tags or ())  # of which tags it is, is known when it is filled in
    return about


def _moment(given: Mapping[str, str]) -> str | None:
    text = given.get(WHEN, "").strip()
    return f"{text}Z" if len(text) in (16, 19) else text or None


def _page(
    visit: Visit,
    about: CommandForm,
    form: Form,
    given: Mapping[str, str],
    key: str,
    *,
    status: int = 200,
    problem: Problem | None = None,
) -> Response:
    body = form.json().decode()
    site = visit.request.url
    url = f"{site.scheme}://{site.netloc}{visit.root.removesuffix(PREFIX)}/commands/{about.name}"
    token = "" if visit.desk.api.access.is_local else " -H 'authorization: Bearer …'"
    return visit.page(
        "command.html",
        status=status,
        command=about,
        form=form,
        key=key,
        occurred_at=given.get(WHEN, ""),
        problem=problem,
        shell=visit.shell("execute", "APP", about.name, body),
        curl=f"curl {shlex.quote(url)}{token} -H 'content-type: application/json' -d {shlex.quote(body)}",
    )
