"""The contract as one page for people: static, searchable, whole without a network, and safe whatever it tells of."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import msgspec

from refold.contract.describe import CommandForm, Contract, EventForm, FollowerForm, StateForm, TagRule, Taken
from refold.contract.diagram import STYLE, diagram
from refold.contract.documents import example, file_name, file_part
from refold.contract.fields import rows_of
from refold.contract.graph import graph_of, short
from refold.contract.markup import Child, Markup, anchor, element, joined, prose, trusted
from refold.contract.shape import JsonSchema

HERE = Path(__file__).parent
Entry: TypeAlias = tuple[str, str, Markup]
"""What something is called, its anchor, and what is written about it."""


def page(contract: Contract) -> str:
    """Return the page, as the text of a file."""
    style = f"{STYLE}\n{(HERE / 'page.css').read_text(encoding='utf-8')}"
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "diagram.js"))
    sections = sections_of(contract)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{contract.app}: the contract"),
        element("link", rel="icon", href="data:,"),
        element("style", trusted(style)),
    )
    body = element(
        "body",
        element("a", "To the content", href="#content", class_="skip"),
        _header(contract),
        element("div", _nav(sections), _main(contract, sections), class_="layout"),
        element("script", trusted(script)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def sections_of(contract: Contract) -> list[tuple[str, Sequence[Entry]]]:
    """Return what is written about each part of a contract, by kinds; links lead to anchors of the same page."""
    sections = ((title, tuple(entries)) for title, entries in _sections(contract))
    return [(title, entries) for title, entries in sections if entries]


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _header(contract: Contract) -> Markup:
    box = element(
        "input", type="search", placeholder="Search  /", aria_label="Search", autocomplete="off", spellcheck="false"
    )
    count = element("span", class_="found", role="status")
    title = element("h1", contract.app, element("span", " · contract"))
    return element("header", title, element("div", box, count, class_="search", hidden=True))


def _nav(sections: Sequence[tuple[str, Sequence[Entry]]]) -> Markup:
    groups = (
        element(
            "details",
            element("summary", f"{title} ({len(entries)})"),
            element(
                "ul",
                (element("li", element("a", name, href=f"#{about}"), class_="entry") for name, about, _ in entries),
            ),
            open=True,
        )
        for title, entries in sections
    )
    return element("nav", groups, aria_label="Contents")


def _main(contract: Contract, sections: Sequence[tuple[str, Sequence[Entry]]]) -> Markup:
    graph = graph_of(contract)
    drawing = element(
        "section",
        element("div", diagram(graph, contract.app, alone=False), class_="drawing", tabindex=0, aria_label="Diagram"),
        element(
            "p",
            "Point at something to see what goes with it; dashed is a command that stands at the left, too. As files: ",
            element("a", "diagram.svg", href="diagram.svg"),
            ", ",
            element("a", "asyncapi.json", href="asyncapi.json"),
            ".",
            class_="hint",
        ),
    )
    listed = (element("section", element("h2", title), (text for _, _, text in entries)) for title, entries in sections)
    return element("main", drawing if graph.nodes else None, listed, id="content")


def _sections(contract: Contract) -> Iterator[tuple[str, Iterable[Entry]]]:
    current = [each for each in contract.events if each.becomes is None]
    yield "Events", (_event(contract, each) for each in current)
    yield "Commands", (_command(contract, each) for each in contract.commands)
    yield "States", (_state(contract, each) for each in contract.states)
    for kind, title in (("process", "Processes"), ("effect", "Effects"), ("projection", "Projections")):
        yield title, (_follower(contract, each) for each in contract.followers if each.kind == kind)
    if contract.published is not None:
        outbox = [_outbox(contract)]
        yield "Published", [*outbox, *(_published(contract, each) for each in contract.published.events)]
    yield "From other contexts", (_inbox(contract, each) for each in contract.taken)
    yield "Old versions", (_event(contract, each) for each in contract.events if each.becomes is not None)


def _event(contract: Contract, form: EventForm) -> Entry:
    versions = [each for each in contract.events if each.name == form.name and each.id != form.id]
    from_old = [each for each in contract.events if form.id in (each.becomes or ())]
    becomes = None
    if form.becomes is not None:
        becomes = _versions(form.becomes) if form.becomes else "nothing: it does not count any more"
    facts = [
        ("becomes", becomes),
        ("upcast from", _versions([each.id for each in from_old])),
        ("other versions", _versions([each.id for each in versions])),
        ("emitted by", _emitters(contract, form.id)),
        ("folded by", _links("state", [each.name for each in contract.states if form.id in each.events])),
        *(
            (
                said,
                _links(
                    kind, [each.name for each in contract.followers if each.kind == kind and form.id in each.follows]
                ),
            )
            for kind, said in (("projection", "kept by"), ("process", "reacted to by"), ("effect", "acted on by"))
        ),
        ("published as", _published_as(contract, form.id)),
    ]
    name = form.id if versions else short(form.id)
    parts = [
        _fields(form.schema, form.tags),
        _facts(facts),
        _sample(form, f"schemas/stored/{file_part(file_name(form))}"),
    ]
    badges = [f"version {form.version}"] if form.version > 1 or versions else []
    return _entry("event", form.id, name, form.doc, form.source, parts, badges)


def _published(contract: Contract, form: EventForm) -> Entry:
    sources = contract.published.translations if contract.published else ()
    made = [source for each in sources if form.id in each.emits for source in each.follows]
    facts = [("made of", _links("event", made))]
    schema = f"schemas/published/{file_part(file_name(form))}"
    parts = [_fields(form.schema, form.tags), _facts(facts), _sample(form, schema)]
    return _entry("published", form.id, short(form.id), form.doc, form.source, parts, [f"type {form.id}"])


def _command(contract: Contract, form: CommandForm) -> Entry:
    givers = [each for each in contract.followers if form.name in each.emits]
    facts = [
        ("decided by", element("code", form.decided_by)),
        ("guards", _links("state", form.guards)),
        ("looks at", _links("state", form.reads)),
        ("emits", _links("event", form.emits) if form.emits else "its annotation does not say"),
        ("given by", _separated(_link(each.kind, each.name) for each in givers)),
        ("asked for by", _links("inbox", [each.context for each in contract.taken if form.name in each.gives])),
    ]
    return _entry("command", form.name, form.name, form.doc, form.source, [_fields(form.schema, ()), _facts(facts)])


def _state(contract: Contract, form: StateForm) -> Entry:
    guards = [each.name for each in contract.commands if form.name in each.guards]
    reads = [each.name for each in contract.commands if form.name in each.reads]
    kept = [each.name for each in contract.followers if each.kind == "projection" and each.name == form.name]
    key = (
        [element("code", f"{rule.path}: {rule.type}"), " ", element("span", rule.tag, class_="tag")]
        for rule in form.key
    )
    facts = [
        ("key", _separated(key)),
        ("folds", _links("event", form.events)),
        ("guarded by", _links("command", guards)),
        ("looked at by", _links("command", reads)),
        ("kept as", _links("projection", kept)),
    ]
    return _entry("state", form.name, form.name, form.doc, form.source, [_fields(form.schema, form.key), _facts(facts)])


def _follower(contract: Contract, form: FollowerForm) -> Entry:
    facts: list[tuple[str, Child]] = [("follows", _links("event", form.follows))]
    state = [each.name for each in contract.states if form.kind == "projection" and each.name == form.name]
    facts.append(("keeps", _links("state", state)))
    chain = None
    if form.emits:
        commands = [each for each in contract.commands if each.name in form.emits]
        chain = [
            element("h4", "gives, and what comes of it"),
            element("ol", (element("li", _step(each)) for each in commands), class_="chain"),
        ]
    elif form.kind == "process":
        facts.append(("gives", "its annotation does not say"))
    return _entry(form.kind, form.name, form.name, form.doc, form.source, [_facts(facts), chain])


def _step(command: CommandForm) -> Iterator[Child]:
    yield _link("command", command.name)
    yield element("span", " → ", class_="of")
    yield _links("event", command.emits) if command.emits else "events"


def _outbox(contract: Contract) -> Entry:
    assert contract.published is not None
    published = contract.published
    rows = (
        element(
            "li",
            _links("event", each.follows),
            element("span", f" → {each.name} → " if each.name else " → ", class_="of"),
            _links("published", each.emits),
        )
        for each in published.translations
    )
    facts = _facts([("topic", element("code", published.topic)), ("form", "CloudEvents 1.0 in JSON")])
    return _entry(
        "outbox", published.topic, f"Topic {published.topic}", "", "", [facts, element("ol", rows, class_="chain")]
    )


def _inbox(contract: Contract, form: Taken) -> Entry:
    known = {each.name for each in contract.commands}
    gives = (_link("command" if name in known else "event", name) for name in form.gives)
    parts: list[Child] = [_facts([("gives", _separated(gives))])]
    for each in form.events:
        parts += [element("h4", element("code", each.id)), prose(each.doc), _fields(each.schema, each.tags)]
        parts.append(_sample(each, f"schemas/taken/{file_part(file_part(form.context))}/{file_part(file_name(each))}"))
    return _entry("inbox", form.context, form.context, "", "", parts)


def _entry(kind: str, name: str, title: str, doc: str, source: str, parts: Child, badges: Iterable[str] = ()) -> Entry:
    about = anchor(kind, name)
    text = element(
        "article",
        element("h3", element("a", title, href=f"#{about}", class_="self")),
        (element("span", each, class_="badge") for each in badges),
        prose(doc),
        parts,
        element("p", source, class_="source") if source else None,
        id=about,
    )
    return title, about, text


def _fields(schema: JsonSchema, tags: Sequence[TagRule]) -> Markup | None:
    rows = list(rows_of(schema))
    if not rows:
        return None
    said = any(row.said for row in rows)
    heads = ["field", "type", "default", *(["tag"] if tags else []), *(["what it is"] if said else [])]
    of_path = {rule.path: rule for rule in tags}
    body = (
        element(
            "tr",
            element("td", row.path, class_="path"),
            element("td", row.type, class_="type"),
            element("td", "required" if row.required else element("code", _json(row.default))),
            element("td", _tag(of_path.get(row.path)) if row.path in of_path else None) if tags else None,
            element("td", row.said) if said else None,
        )
        for row in rows
    )
    head = element("thead", element("tr", (element("th", name, scope="col") for name in heads)))
    return element("div", element("table", head, element("tbody", body)), class_="fields", tabindex="0")


def _tag(rule: TagRule | None) -> Markup | None:
    return element("span", rule.tag, class_="tag") if rule else None


def _facts(facts: Iterable[tuple[str, Child]]) -> Markup | None:
    found = [(name, joined(value)) for name, value in facts if value is not None]
    return element("dl", ([element("dt", name), element("dd", value)] for name, value in found)) if found else None


def _sample(form: EventForm, schema: str) -> Markup:
    return element(
        "details",
        element("summary", "Example"),
        element("pre", _json(example(form.schema), indent=2), tabindex=0),
        element("p", element("a", "JSON Schema", href=schema)),
    )


def _emitters(contract: Contract, id: str) -> Child:
    links = [
        [_link("command", each.name), element("span", f" ({each.decided_by})", class_="of")]
        for each in contract.commands
        if id in each.emits
    ]
    links += [[_link("inbox", each.context)] for each in contract.taken if id in each.gives]
    return _separated(links)


def _published_as(contract: Contract, id: str) -> Child:
    sources = contract.published.translations if contract.published else ()
    return _links("published", [name for each in sources if id in each.follows for name in each.emits])


def _links(kind: str, names: Iterable[str]) -> Markup | None:
    return _separated(_link(kind, name) for name in dict.fromkeys(names))


def _versions(ids: Iterable[str]) -> Markup | None:
    return _separated(element("a", each, href=f"#{anchor('event', each)}") for each in ids)


def _link(kind: str, name: str) -> Markup:
    return element("a", short(name) if kind in ("event", "published") else name, href=f"#{anchor(kind, name)}")


def _separated(parts: Iterable[Child]) -> Markup | None:
    found = [joined(part) for part in parts]
    return joined([", " if number else None, part] for number, part in enumerate(found)) if found else None


def _json(value: object, indent: int = 0) -> str:
    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
