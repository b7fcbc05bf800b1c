"""Two contracts compared: what changed, whom it breaks, and what to do about it.

*Backward* means that this code reads what is stored already, and takes the commands that are sent already. *Forward*
means that programs which run the old code for a while, and contexts that follow what is published, read what this code
writes. What is found by other tags than before is a break of its own: no code could read what it does not find.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from refold.contract.describe import (
    CommandForm,
    Contract,
    EventForm,
    FollowerForm,
    Published,
    StateForm,
    TagRule,
    Taken,
)
from refold.contract.fit import Change, changes

Mode: TypeAlias = Literal["backward", "forward", "full"]
Kind: TypeAlias = Literal["event", "command", "state", "projection", "process", "effect", "published", "inbox"]

OLD_EVENTS = "events that are stored already are not read as they were meant"
OLD_CODE = "programs that still run the old code cannot read what this code writes"
SENDERS = "programs that send this command as before are refused"
CONSUMERS = "contexts that follow what is published cannot read it"
HISTORY = "this ORPHANS HISTORY: a state finds its events by tags, and will miss some without a word"
UNFOUND = "a state finds its events by tags, and will miss new ones without a word; those stored before keep theirs"
PUBLISHERS = "what other contexts publish as before is parked, or passed over"
BEGUN_ANEW = "how far it has come, its timers and what it has parked are kept under its name, and stay behind"


class Finding(Struct, frozen=True):
    """Something that changed."""

    kind: Kind
    about: str
    """The id of an event, or the name of a command, state, follower or context."""
    rule: str
    said: str
    path: str = ""
    """Where in it; empty if it is the whole."""
    backward: bool = False
    forward: bool = False
    breaks: str = ""
    """Who breaks, in words; empty if nobody does."""
    advice: str = ""
    source: str = ""
    """Where the class stands now, as `module:name`; empty if it is gone."""

    def fails(self, mode: Mode) -> bool:
        """Tell whether it counts: commands are sent by old code, and what is published is read by it."""
        if self.kind == "published":
            return self.forward
        if self.kind != "event":
            return self.backward
        return (self.backward and mode != "forward") or (self.forward and mode != "backward")


def compare(old: Contract, new: Contract) -> list[Finding]:
    """Return what changed between two contracts; nothing of it need break anybody."""
    return [
        *_events(old.events, new.events),
        *_commands(old.commands, new.commands),
        *_states(old.states, new.states),
        *_followers(old.followers, new.followers),
        *_published(old.published, new.published),
        *_taken(old.taken, new.taken),
    ]


def additions(old: Contract, new: Contract) -> list[str]:
    """Return what is in a contract that is not in an old one, by kind and name: it breaks nobody, but is not locked."""
    return sorted(_names(new) - _names(old))


def _names(contract: Contract) -> set[str]:
    return {
        *(f"event {each.id}" for each in contract.events),
        *(f"command {each.name}" for each in contract.commands),
        *(f"state {each.name}" for each in contract.states),
        *(f"{each.kind} {each.name}" for each in contract.followers),
        *(f"published {each.id}" for each in (contract.published.events if contract.published else ())),
        *(f"inbox {each.context}" for each in contract.taken),
    }


def _events(before: Iterable[EventForm], after: Iterable[EventForm]) -> Iterator[Finding]:
    old, new = {each.id: each for each in before}, {each.id: each for each in after}
    yield from _collisions(after)
    for form in old.values():
        if form.id in new:
            yield from _form(form, new[form.id])
        else:
            yield _unread(form, old, new)
    for form in new.values():
        if form.id not in old:
            yield from _new_version(form, old, new)


def _form(old: EventForm, new: EventForm) -> Iterator[Finding]:
    advice = _versioned(new) if new.becomes is None else _kept(new)
    for change in changes(old.schema, new.schema):
        yield _finding("event", new.id, change, new.source, (OLD_EVENTS, OLD_CODE), advice)
    for rule, said, backward, forward in _tags(old.tags, new.tags):
        broken = UNFOUND if rule == "tag-removed" else HISTORY
        yield Finding("event", new.id, rule, said, "", backward, forward, broken, _TAGS_ADVICE, new.source)
    if old.becomes != new.becomes:
        yield Finding("event", new.id, "upcast-changed", _upcast_said(old, new), source=new.source)


def _unread(form: EventForm, old: Mapping[str, EventForm], new: Mapping[str, EventForm]) -> Finding:
    """Tell of an event that may be stored, and that nothing reads any more."""
    if newer := [each for each in new.values() if each.name == form.name]:
        last = max(newer, key=lambda each: each.version)
        said = f"is not read any more, although {last.id} is: an upcaster is missing"
        return Finding(
            "event", form.id, "version-unread", said, "", True, False, OLD_EVENTS, _upcaster(form, last), last.source
        )
    for each in new.values():
        if each.id not in old and each.version == 1 and _alike(form, each):
            said = f"is called {each.name} now, and what is stored as {form.name} is not read"
            advice = (
                f"keep the name under which it is stored: `@stored_as({form.name!r}, version={form.version})` on "
                f"{_class(each)}; or keep the old class and write an upcaster from it"
            )
            return Finding("event", form.id, "event-renamed", said, "", True, False, OLD_EVENTS, advice, each.source)
    advice = (
        f"keep the class among the events; or, if these facts do not count any more, say so: "
        f"`def drop(old: {form.name}) -> None` in `upcasters`"
    )
    said = "is gone, and what is stored of it is not read"
    return Finding("event", form.id, "event-removed", said, "", True, False, OLD_EVENTS, advice)


def _new_version(form: EventForm, old: Mapping[str, EventForm], new: Mapping[str, EventForm]) -> Iterator[Finding]:
    """Tell of a version that is new: of a name that is, too, there is nothing to tell."""
    versions = [each.version for each in old.values() if each.name == form.name]
    if not versions:
        return
    last = max(versions)
    if form.version > last:
        between = [number for number in range(last + 1, form.version) if f"{form.name}.v{number}" not in new]
        if between:
            said = f"comes after version {last}, and nothing reads version {', '.join(map(str, between))}"
            advice = f"make it version {last + 1}: `@stored_as({form.name!r}, version={last + 1})`"
            yield Finding("event", form.id, "version-skipped", said, "", True, True, OLD_EVENTS, advice, form.source)
        said = f"is new; old code knows {form.name} up to version {last}, and parks it"
        advice = (
            "let the new code write once no old code runs; or let that wait: it reads what is parked once it is new"
        )
        yield Finding("event", form.id, "version-added", said, "", False, True, OLD_CODE, advice, form.source)
    else:
        said = f"is a version below {last}, which is in use: what is stored as it would be read anew"
        yield Finding(
            "event", form.id, "version-lowered", said, "", True, False, OLD_EVENTS, _versioned(form), form.source
        )


def _collisions(forms: Iterable[EventForm]) -> Iterator[Finding]:
    seen: dict[str, EventForm] = {}
    for form in forms:
        if (other := seen.get(form.id)) is not None:
            said = f"is what both {_class(other)} and {_class(form)} are stored as"
            advice = f"give one another name or version: `@stored_as({form.name!r}, version={form.version + 1})`"
            yield Finding("event", form.id, "name-taken", said, "", True, True, OLD_EVENTS, advice, form.source)
        seen[form.id] = form


def _commands(before: Iterable[CommandForm], after: Iterable[CommandForm]) -> Iterator[Finding]:
    new = {each.name: each for each in after}
    for command in before:
        if command.name not in new:
            said = "is gone; who still sends it is refused"
            advice = "keep it, with a decision that does what the new one does, until nobody sends it"
            yield Finding("command", command.name, "command-removed", said, "", True, False, SENDERS, advice)
            continue
        now = new[command.name]
        for change in changes(command.schema, now.schema):
            advice = "give new fields a default, and keep old ones until nobody sends them; or make it another command"
            yield _finding("command", command.name, change, now.source, (SENDERS, ""), advice)


def _states(before: Iterable[StateForm], after: Iterable[StateForm]) -> Iterator[Finding]:
    new = {each.name: each for each in after}
    for state in before:
        now = new.get(state.name)
        if now is not None and [each.tag for each in now.key] != [each.tag for each in state.key]:
            said = f"is kept by {_by(now)} where it was kept by {_by(state)}"
            advice = "make it another state, beside this one; events that lack a tag of its key never reach it"
            yield Finding("state", state.name, "key-changed", said, "", True, False, HISTORY, advice, now.source)


def _followers(before: Iterable[FollowerForm], after: Iterable[FollowerForm]) -> Iterator[Finding]:
    """Tell of what goes by another name: its place in the log is kept under the old one."""
    old, new = {_place(each): each for each in before}, {_place(each): each for each in after}
    come = [each for place, each in new.items() if place not in old]
    for place, form in old.items():
        if place in new:
            continue
        now = next((each for each in come if _does_the_same(form, each)), None)
        if now is not None:
            come.remove(now)
        if form.kind == "projection":
            said = f"is called {now.name} now, and built anew under that name" if now else "is gone, and not kept up"
            yield Finding(form.kind, form.name, "projection-renamed" if now else "projection-removed", said)
        elif now is not None:
            advice = f"let it keep its name, `def {form.name}`: what it does may change"
            said = f"is called {now.name} now, and {_begun_anew(form)}"
            yield Finding(
                form.kind, form.name, "follower-renamed", said, "", True, False, BEGUN_ANEW, advice, now.source
            )
        else:
            said = "is gone: events that it has not come to lead to nothing, and its timers never fire"
            advice = (
                "keep it until its timers have fired and nothing of it is parked; if it has another name now, let it "
                f"keep this one, `def {form.name}`"
            )
            yield Finding(form.kind, form.name, "follower-removed", said, "", True, False, BEGUN_ANEW, advice)


def _place(form: FollowerForm) -> tuple[bool, str]:
    return form.kind == "projection", form.name  # one that becomes an effect goes on where the process stood


def _does_the_same(old: FollowerForm, new: FollowerForm) -> bool:
    return (old.kind, old.follows, old.emits) == (new.kind, new.follows, new.emits)


def _begun_anew(form: FollowerForm) -> str:
    if form.kind == "process":
        return "begins with the log again: all its commands are given a second time"
    return (
        "begins where the log ends when it is first run, so that what is not done by then never is; or, if it is to "
        "begin from_start, does everything a second time"
    )


def _published(before: Published | None, after: Published | None) -> Iterator[Finding]:
    if before is None:
        return
    if after is None or after.topic != before.topic:
        said = f"is not published on {before.topic!r} any more" + (f", but on {after.topic!r}" if after else "")
        advice = "others follow the topic: keep the app's name, and its outbox"
        yield Finding("published", before.topic, "topic-gone", said, "", True, True, CONSUMERS, advice)
        return
    new = {each.id: each for each in after.events}
    for form in before.events:
        if form.id not in new:
            newer = [each for each in new.values() if each.name == form.name]
            said = f"is not published any more{f'; {newer[0].id} is' if newer else ''}"
            advice = (
                f"publish {form.id} beside what is new, translated by a function in `outbox`, until nobody follows it"
            )
            yield Finding("published", form.id, "publication-ended", said, "", False, True, CONSUMERS, advice)
            continue
        now = new[form.id]
        advice = (
            f"publish it as version {now.version + 1}, and version {now.version} beside it, made by a function in "
            "`outbox`, until nobody follows the old one"
        )
        for change in changes(form.schema, now.schema):
            # Consumers are the old code.
            yield _finding("published", form.id, change, now.source, ("", CONSUMERS), advice)


def _taken(before: Iterable[Taken], after: Iterable[Taken]) -> Iterator[Finding]:
    new = {each.context: each for each in after}
    for taken in before:
        forms = {each.id: each for each in new[taken.context].events} if taken.context in new else {}
        for form in taken.events:
            now = forms.get(form.id)
            if now is not None:
                advice = f"give new fields a default, or keep the class and write an upcaster: {_in_inbox(taken)}"
                for change in changes(form.schema, now.schema):
                    yield _finding("inbox", f"{taken.context} {form.id}", change, now.source, (PUBLISHERS, ""), advice)
                continue
            newer = next((each for each in forms.values() if each.name == form.name), None)
            said = f"is not taken in any more{f', although {newer.id} is' if newer else ''}"
            advice = f"keep its class until nobody publishes it, with an upcaster to what is new: {_in_inbox(taken)}"
            source = newer.source if newer else ""
            about = f"{taken.context} {form.id}"
            yield Finding("inbox", about, "taken-ended", said, "", True, False, PUBLISHERS, advice, source)


def _in_inbox(taken: Taken) -> str:
    return f"`Inbox({taken.context!r}, [...], upcasters=[...])`"


def _finding(kind: Kind, about: str, change: Change, source: str, broken: tuple[str, str], advice: str) -> Finding:
    """Tell of a change in a schema; `broken` says whom it breaks backward and forward, nothing where that is nobody."""
    hits = (change.backward, change.forward)
    breaks = [words for hit, words in zip(hits, broken, strict=True) if hit and words]
    path = change.path.removeprefix("$").removeprefix(".")
    said = "; ".join(breaks)
    return Finding(kind, about, change.rule, change.said, path, *hits, said, advice if breaks else "", source)


def _tags(before: Iterable[TagRule], after: Iterable[TagRule]) -> Iterator[tuple[str, str, bool, bool]]:
    """Tell of tags that are derived otherwise: rule, words, and whether that breaks backward and forward."""
    old, new = {(each.tag, each.path): each for each in before}, {(each.tag, each.path): each for each in after}
    gone, come = [each for each in old if each not in new], [each for each in new if each not in old]
    for tag, path in list(gone):
        moved = next((place for name, place in come if name == tag), None)
        if moved is not None:
            gone.remove((tag, path))
            come.remove((tag, moved))
            yield "tag-moved", f"takes its tag {tag!r} from {moved} where it took it from {path}", True, True
    for tag, path in gone:
        yield "tag-removed", f"has no tag {tag!r} from {path} any more: new ones are not found by it", True, True
    for tag, path in come:
        yield "tag-added", f"has a tag {tag!r} from {path} now: those stored before are not found by it", True, False
    for place in old:
        if place in new and old[place].type != new[place].type:
            said = f"makes the tag {place[0]!r} of a {new[place].type} where it was a {old[place].type}"
            yield "tag-type", said, True, True


_TAGS_ADVICE = (
    "leave the tag as it is, or give the event a new version and name in its upcaster what becomes of old ones; a "
    "projection reads all events of its types, whatever their tags"
)


def _versioned(form: EventForm) -> str:
    """Return what to write when an event has to change."""
    kind, old, version = _class(form), f"{_class(form)}V{form.version}", form.version
    return (
        "keep the class that wrote what is stored, and give the new one a version of its own:\n"
        f"@stored_as({form.name!r}, version={version})\n"
        f"class {old}(Event): ...  # as it was\n"
        f"@stored_as({form.name!r}, version={version + 1})\n"
        f"class {kind}(Event): ...  # as it is to be\n"
        f"def to_v{version + 1}(old: {old}) -> {kind}: ...  # in `upcasters`"
    )


def _kept(form: EventForm) -> str:
    return f"leave {_class(form)} as it was: it is there to read what is stored as {form.id}"


def _upcaster(form: EventForm, last: EventForm) -> str:
    old = f"{_class(last)}V{form.version}"
    return (
        "keep its class, and write an upcaster:\n"
        f"@stored_as({form.name!r}, version={form.version})\n"
        f"class {old}(Event): ...  # as it was\n"
        f"def to_v{last.version}(old: {old}) -> {_class(last)}: ...  # in `upcasters`"
    )


def _upcast_said(old: EventForm, new: EventForm) -> str:
    if new.becomes is None:
        return "is recorded again; it was only read"
    if not new.becomes:
        return "is dropped when it is read: these facts do not count any more"
    was = (
        "is only read now, and" if old.becomes is None else f"became {' and '.join(old.becomes) or 'nothing'}, and now"
    )
    return f"{was} becomes {' and '.join(new.becomes)}"


def _alike(old: EventForm, new: EventForm) -> bool:
    return not any(each.backward or each.forward for each in changes(old.schema, new.schema)) and bool(
        old.schema.get("properties")
    )


def _by(state: StateForm) -> str:
    return " and ".join(repr(each.tag) for each in state.key) or "nothing"


def _class(form: EventForm) -> str:
    return form.source.rpartition(":")[2].rpartition(".")[2]
