"""The parts of stubs in Python that are the same for every contract; of the helpers only those that are used."""

IMPORTS = {
    "_bytes": "from base64 import b64decode",
    "_timedelta": "import re",
    "_one_of": "from enum import Enum",
    "_decimal": "from decimal import Decimal, InvalidOperation",
    "_datetime": "from datetime import datetime",
}
WORDS = (
    "Any Callable Decimal Enum InvalidOperation Literal MalformedMessage Mapping PublishedEvent Received "
    "TypeAlias TypeVar UUID UnknownEvent annotations b64decode bool bytes cast dataclass date datetime dict "
    "enumerate float int json len list object parse re receive str time timedelta tuple type None True False "
    "ValueError RecursionError Exception isinstance super range zip"
)
RESERVED = frozenset(WORDS.split())
"""What no class may be called."""
FIXED = '''
class MalformedMessage(ValueError):
    """The message is no CloudEvent, or its event is not what its contract says."""


class UnknownEvent(Exception):
    """The message has an event that this file does not know: `type` and `message` say which."""

    def __init__(self, type: str, message: dict[str, object]) -> None:
        super().__init__(f"there is no event {type!r} in this contract")
        self.type = type
        self.message = message
'''
RECEIVED = '''
@dataclass(frozen=True)
class Received:
    """A message: an event, and what is known about it. `id` is the same if it is sent again."""

    id: str
    source: str
    type: str
    time: datetime | None
    subject: str
    partition_key: str
    sequence: str
    correlation_id: str
    causation_id: str
    actor: str
    event: PublishedEvent


def parse(message: bytes | str) -> PublishedEvent:
    """Return the event of a message, which is a CloudEvent in JSON; raises MalformedMessage and UnknownEvent."""
    return receive(message).event


def receive(message: bytes | str) -> Received:
    """Return an event with what is known about it; raises MalformedMessage and UnknownEvent."""
    try:
        content: object = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"the message is no JSON: {error}") from error
    fields = _fields(content)
    if fields.get("specversion") != "1.0":
        raise MalformedMessage("the message is no CloudEvent of version 1.0")
    type = _field(fields, "type", _str)
    read = _READERS.get(type)
    if read is None:
        raise UnknownEvent(type, fields)
    return Received(
        id=_field(fields, "id", _str),
        source=_field(fields, "source", _str),
        type=type,
        time=_field(fields, "time", _either(_none, _datetime), None),
        subject=_field(fields, "subject", _str, ""),
        partition_key=_field(fields, "partitionkey", _str, ""),
        sequence=_field(fields, "sequence", _str, ""),
        correlation_id=_field(fields, "correlationid", _str, ""),
        causation_id=_field(fields, "causationid", _str, ""),
        actor=_field(fields, "actor", _str, ""),
        event=_field(fields, "data", read, {}),
    )
'''
HELPERS = {
    "_wrong": """
def _wrong(value: object, wanted: str) -> MalformedMessage:
    return MalformedMessage(f"should be {wanted}, but is {str(value)[:80]!r}")
""",
    "_fields": """
def _fields(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    raise _wrong(value, "an object")
""",
    "_items": """
def _items(value: object) -> list[object]:
    if isinstance(value, list):
        return cast("list[object]", value)
    raise _wrong(value, "an array")
""",
    "_field": """
_MISSING = object()


def _field(fields: dict[str, object], name: str, read: Callable[[object], _T], default: object = _MISSING) -> _T:
    value = fields.get(name, default)
    if value is _MISSING:
        raise MalformedMessage(f"{name} is missing")
    try:
        return read(value)
    except MalformedMessage as error:
        raise MalformedMessage(f"{name}: {error}") from error
""",
    "_str": """
def _str(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(value, "text")
""",
    "_int": """
def _int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(value, "a whole number")
""",
    "_float": """
def _float(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _wrong(value, "a number")
""",
    "_bool": """
def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(value, "true or false")
""",
    "_none": """
def _none(value: object) -> None:
    if value is not None:
        raise _wrong(value, "null")
""",
    "_any": """
def _any(value: object) -> object:
    return value
""",
    "_datetime": """
def _datetime(value: object) -> datetime:
    try:
        return datetime.fromisoformat(_str(value))
    except ValueError as error:
        raise _wrong(value, "a date and time") from error
""",
    "_date": """
def _date(value: object) -> date:
    try:
        return date.fromisoformat(_str(value))
    except ValueError as error:
        raise _wrong(value, "a date") from error
""",
    "_time": """
def _time(value: object) -> time:
    try:
        return time.fromisoformat(_str(value))
    except ValueError as error:
        raise _wrong(value, "a time of day") from error
""",
    "_timedelta": r"""
_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)


def _timedelta(value: object) -> timedelta:
    found = _DURATION.fullmatch(_str(value))
    if found is None:
        raise _wrong(value, "a duration")
    sign, days, hours, minutes, seconds = found.groups("0")
    whole = timedelta(int(days), hours=int(hours), minutes=int(minutes)) + timedelta(seconds=float(seconds))
    return -whole if sign == "-" else whole
""",
    "_decimal": """
def _decimal(value: object) -> Decimal:
    try:
        return Decimal(_str(value))
    except InvalidOperation as error:
        raise _wrong(value, "a decimal number") from error
""",
    "_uuid": """
def _uuid(value: object) -> UUID:
    try:
        return UUID(_str(value))
    except ValueError as error:
        raise _wrong(value, "a UUID") from error
""",
    "_bytes": """
def _bytes(value: object) -> bytes:
    try:
        return b64decode(_str(value), validate=True)
    except ValueError as error:
        raise _wrong(value, "bytes in base 64") from error
""",
    "_one_of": """
_E = TypeVar("_E", bound=Enum)


def _one_of(kind: type[_E]) -> Callable[[object], _E]:
    def read(value: object) -> _E:
        for each in kind:
            known: object = each.value
            if type(known) is type(value) and known == value:
                return each
        raise _wrong(value, f"a {kind.__name__}")

    return read
""",
    "_all_of": """
def _all_of(read: Callable[[object], _T]) -> Callable[[object], tuple[_T, ...]]:
    return lambda value: tuple(read(each) for each in _items(value))
""",
    "_each_of": """
def _each_of(read: Callable[[object], _T]) -> Callable[[object], dict[str, _T]]:
    return lambda value: {key: read(each) for key, each in _fields(value).items()}
""",
    "_either": """
def _either(one: Callable[[object], _T], other: Callable[[object], _U]) -> Callable[[object], _T | _U]:
    def read(value: object) -> _T | _U:
        try:
            return one(value)
        except MalformedMessage:
            return other(value)

    return read
""",
    "_by_place": """
def _by_place(value: object, names: tuple[str, ...]) -> dict[str, object]:
    return dict(zip(names, _items(value), strict=False))
""",
    "_tag": """
def _tag(value: object, wanted: object) -> object:
    if type(value) is not type(wanted) or value != wanted:
        raise _wrong(value, repr(wanted))
    return value
""",
}
