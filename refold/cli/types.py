"""`refold log types` and `show`: what events mean, as the log itself has it; the code that wrote them is not needed."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import click
import msgspec

from refold.cli.log import JSON, STORE, opened
from refold.errors import InvalidQuery
from refold.model.record import StoredEvent
from refold.runtime.books import StoredSchema
from refold.runtime.registry import stored_schemas


@click.command("types")
@STORE
@JSON
def types_command(store: str, as_json: bool) -> None:
    r"""Show the types of events that apps have stored in a log: their fields, tags, and where each begins.

    A type and version that was stored by several schemas is marked: its class was changed without a new version.

    \b
      refold log types --store sqlite:///shop.db
      refold log types --json | jq 'select(.type == "OrderPlaced") | .schema'
    """

    async def work() -> list[StoredSchema]:
        async with opened(store) as log:
            return await stored_schemas(log)

    rows = asyncio.run(work())
    schemas = Counter((row.type, row.version) for row in rows)
    if as_json:
        for row in rows:
            found = msgspec.to_builtins(row) | {"schema": msgspec.Raw(row.schema.encode())}
            found["changed"] = schemas[row.type, row.version] > 1
            click.echo(msgspec.json.encode(found).decode())
        return
    _show(rows, schemas)


@click.command("show")
@click.argument("position", type=click.IntRange(1))
@STORE
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def show_command(position: int, store: str, as_json: bool) -> None:
    r"""Show an event whole, each of its fields with what it is, as the app that stored it has written down.

    \b
      refold log show 4711 --store sqlite:///shop.db
    """

    async def work() -> tuple[StoredEvent | None, list[StoredSchema]]:
        async with opened(store) as log:
            found = [event async for page in log.read(after=position - 1, upto=position) for event in page]
            return (found[0] if found else None), await stored_schemas(log)

    event, rows = asyncio.run(work())
    if event is None:
        raise InvalidQuery(f"the log has no event at position {position}")
    of = [row for row in rows if (row.type, row.version) == (event.type, event.version) and row.position <= position]
    _show_event(event, of[-1] if of else None, as_json=as_json)


def _show(rows: list[StoredSchema], schemas: Mapping[tuple[str, int], int]) -> None:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned, print_table

    table = Table("type", "version", "from position", "fields", "tags", "written down", "")
    for row in rows:
        fields = ", ".join(f"{name} {_kind(each)}" for name, each in _fields(row).items())
        tags = " ".join(f"{each.tag}:{each.path}" for each in row.tags)
        changed = "changed without a new version" if schemas[row.type, row.version] > 1 else ""
        table.add_row(
            Text(cleaned(row.type)),
            str(row.version),
            f"{row.position:,}",
            Text(cleaned(fields)),
            Text(cleaned(tags)),
            f"{row.seen_at:%Y-%m-%d %H:%M}",
            Text(changed, style="red"),
        )
    print_table(table)


def _show_event(event: StoredEvent, row: StoredSchema | None, *, as_json: bool) -> None:
    from refold.cli.show import as_object, cleaned, print_object

    found = as_object(event)
    if as_json:
        found["schema"] = msgspec.Raw(row.schema.encode()) if row else None
        print_object(found, as_json=True, title="")
        return
    data = found.pop("data")
    print_object(found, as_json=False, title=f"position {event.position}")
    doc = f": {row.doc.splitlines()[0]}" if row and row.doc else ""
    title = f"{event.type} version {event.version}{doc}"
    if isinstance(data, msgspec.Raw) and row is not None:
        fields = _fields(row)
        values: Any = msgspec.json.decode(data)
        if isinstance(values, dict):
            told = {
                name: f"{msgspec.json.encode(value).decode()}  ({_meaning(fields.get(name))})"
                for name, value in cast(dict[str, Any], values).items()
            }
            print_object(told, as_json=False, title=title)
            return
    print_object({"data": data}, as_json=False, title=title)
    if row is None:
        click.echo(cleaned("no app has written down what its fields are"), err=True)


def _fields(row: StoredSchema) -> dict[str, dict[str, Any]]:
    schema: dict[str, Any] = msgspec.json.decode(row.schema)
    return {name: each for name, each in schema.get("properties", {}).items() if isinstance(each, dict)}


def _meaning(field: dict[str, Any] | None) -> str:
    if field is None:
        return "not in the schema"
    words = field.get("description")
    return f"{_kind(field)}: {words}" if words else _kind(field)


def _kind(field: dict[str, Any]) -> str:
    """Return the type of a field for people: `string`, `date-time`, `Line[]`."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(str(each) for each in field["enum"])
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return f"{_kind(field['items'])}[]"
    return str(field.get("format") or field.get("type") or "anything")
