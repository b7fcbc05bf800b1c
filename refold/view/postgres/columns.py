"""The columns that a table has in the database, beside those of its class."""

from refold.store.postgres.connections import Connection
from refold.view.postgres.layout import Layout
from refold.view.table import Column, not_kept, unlike

COLUMNS = """
SELECT a.attname, a.atttypid, k.nth
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid
LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
LEFT JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, nth) ON k.attnum = a.attnum
WHERE n.nspname = current_schema AND c.relname = $1 AND a.attnum > 0 AND NOT a.attisdropped"""

SAME = "SELECT $1::oid = $2::text::regtype::oid"


async def missing_columns(connection: Connection, layout: Layout) -> list[Column]:
    """Return the columns that a table in the database lacks, or raise `WiringError` if it could not just get them."""
    table = layout.table
    rows = await connection.fetch(COLUMNS, table.stored)
    if not rows:
        raise not_kept(table)
    there: dict[str, int] = {row[0]: row[1] for row in rows}
    key = [str(row[0]) for row in sorted((row for row in rows if row[2] is not None), key=lambda row: int(row[2]))]
    if key != (list(table.key) or ["only_row"]):
        raise unlike(table, f"its key is {', '.join(key)}")
    if ("_words" in there) != bool(table.searched):
        raise unlike(table, f"{'some' if '_words' in there else 'none'} of its columns are searched")
    for column in table.columns:
        of = layout.type_of(column).name
        if column.name in there and not await connection.fetchval(SAME, there[column.name], of):
            raise unlike(table, f"its column {column.name} is not {of}")
    return [column for column in table.columns if column.name not in there]
