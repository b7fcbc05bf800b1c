"""Files: where the rows of a table and month lie, and how many small files become one.

A partition that grows by a few rows a second would have a file for each. So when eight files that lie side by side are
all below some size, they are merged, the smallest first; a row is written again about once for each power of eight.
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from pathlib import Path
from urllib.parse import quote

import polars as pl

from refold.view.parquet.manifest import File

MERGED = 8
FULL_ROWS = 1 << 17
FULL_BYTES = 32 << 20
"""A file that has reached either is left alone."""
_LONGEST = 120


def folder_name(name: str) -> str:
    """Return a name as every file system can hold it: percent-encoded, and cut where it is too long for one."""
    plain = quote(name, safe=" ").replace(".", "%2E").replace("~", "%7E")
    return plain if len(plain) <= _LONGEST else f"{plain[:80]}-{blake2b(name.encode(), digest_size=12).hexdigest()}"


def events_folder(table: str, month: str) -> str:
    """Return where the events of a table and month lie, in the way of Hive."""
    return f"events/type={folder_name(table)}/month={month}"


def views_folder(view: str) -> str:
    """Return where the rows of a view lie."""
    return f"views/{folder_name(view)}"


def write(folder: Path, path: str, frame: pl.DataFrame) -> int:
    """Write rows to a new file of a mirror, not yet to the disk, and return its size in bytes."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(target, compression="zstd", compression_level=1)
    return target.stat().st_size


def merged(folder: Path, files: Sequence[File], generation: int) -> tuple[File, ...]:
    """Return the files of one table, those of each month that are many and small merged into new ones."""
    found: list[File] = []
    months: dict[str, list[File]] = {}
    for file in files:
        months.setdefault(file.month, []).append(file)
    for each in months.values():
        while run := _next_run(each):
            begin, end = run
            one = _merge(folder, each[begin:end], generation)
            for made in each[begin:end]:
                if generation == _generation(made):  # no manifest has named it
                    (folder / made.path).unlink()
            each[begin:end] = [one]
        found += each
    return tuple(found)


def file_name(first: int, last: int, generation: int) -> str:
    """Return the name of a file; the step of the mirror makes it another than any before for the same positions."""
    return f"{first:012}-{last:012}-{generation}.parquet"


def _generation(file: File) -> int:
    return int(file.path.removesuffix(".parquet").rpartition("-")[2])


def _next_run(files: Sequence[File]) -> tuple[int, int] | None:
    """Return where eight neighbours are that can be merged, of the smallest size that there are such of."""
    sizes = [_size(file) for file in files]
    for size in sorted({each for each in sizes if each is not None}):
        begin = 0
        for end, file in enumerate(files, 1):
            own = sizes[end - 1]
            if own is None or own > size:
                begin = end
            elif file.wide != files[begin].wide:
                begin = end - 1
            if end - begin == MERGED:
                return begin, end
    return None


def _size(file: File) -> int | None:
    if file.rows >= FULL_ROWS or file.size >= FULL_BYTES:
        return None
    return int(log(max(file.rows, 1), MERGED))


def _merge(folder: Path, files: Sequence[File], generation: int) -> File:
    first, last = files[0].first, files[-1].last
    path = f"{Path(files[0].path).parent.as_posix()}/{file_name(first, last, generation)}"
    rows = pl.scan_parquet([folder / file.path for file in files], glob=False, hive_partitioning=False)
    rows.sink_parquet(folder / path, compression="zstd", compression_level=1)
    size = (folder / path).stat().st_size
    return File(path, first, last, sum(file.rows for file in files), size, files[0].month, files[0].wide)
