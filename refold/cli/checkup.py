"""What a set-up stands on, looked at without an app: Python and its packages, keys, a log's file and its disk."""

import os
import platform
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import refold
from refold.errors import SECRET_NAMES, RefoldError
from refold.runtime.diagnose import Diagnosis, Severity

Fine: TypeAlias = tuple[str, str]
"""What was looked at, and what was found to be well."""
Found: TypeAlias = "Fine | Diagnosis"

EXTRAS: Mapping[str, tuple[Sequence[str], str]] = {
    "http": (("starlette", "uvicorn", "jinja2"), "refold serve, the console"),
    "oidc": (("jwt",), "signed tokens"),
    "otel": (("opentelemetry",), "traces and metrics"),
    "postgres": (("asyncpg",), "logs in PostgreSQL"),
    "analytics": (("duckdb", "polars"), "refold query"),
    "testing": (("pytest", "hypothesis"), "refold.testing"),
    "nats": (("nats",), "NATS"),
    "kafka": (("confluent_kafka",), "Kafka"),
    "rabbitmq": (("aio_pika",), "RabbitMQ"),
    "valkey": (("valkey",), "Valkey and Redis"),
}
NETWORKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "fuse.sshfs", "fuse.s3fs", "davfs"})
"""File systems without the shared memory that SQLite needs to let several processes at a log."""
LITTLE, VERY_LITTLE = 1 << 30, 100 << 20
"""Bytes free on a disk: somebody should see to it; appends will soon be refused."""
LARGE_WAL = 1 << 30
HIDDEN = "***"


def of_programs() -> Iterator[Found]:
    """Look at Python, SQLite, and what is installed."""
    yield "versions", f"Refold {refold.__version__}, Python {platform.python_version()}, {platform.system()}"
    from apsw import sqlite_lib_version

    from refold.store.sqlite.opening import check_sqlite

    version = sqlite_lib_version()
    try:
        check_sqlite(version)
        yield "SQLite", f"{version}, with what keeps committed data safe"
    except RefoldError as error:
        yield Diagnosis("UNSAFE_SQLITE", "critical", "SQLite can lose data", str(error), "pip install --upgrade apsw")
    have = [name for name, (modules, _) in EXTRAS.items() if all(map(find_spec, modules))]
    lack = [f"{name} ({what})" for name, (_, what) in EXTRAS.items() if name not in have]
    yield "extras", f"{', '.join(have) or 'none'}; not installed: {', '.join(lack) or 'none'}"


def of_keys(path: Path) -> Iterator[Found]:
    """Look at a file of keys, if there is one."""
    if not path.exists():
        return
    if find_spec("starlette") is None:
        yield "keys", f"{path} is there; to read it takes refold[http]"
        return
    from refold.http.tokens import keys_in

    try:
        keys = keys_in(path)
    except (RefoldError, OSError) as error:
        command = f"refold key list --keys {path}"
        yield Diagnosis("KEYS_UNREADABLE", "critical", "The keys cannot be read", str(error), command, str(path))
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        said = f"{path} has mode {mode:04o}; it tells who may come in, and who may write it can let anybody in"
        yield Diagnosis("KEYS_OPEN", "warning", "Others can reach the keys", said, f"chmod 600 {path}", str(path))
    for key in keys:
        if not key.is_good:
            said = f"{key.name} has expired and is not let in any more"
            command = f"refold key revoke {key.name} --keys {path}"
            yield Diagnosis("KEY_EXPIRED", "info", "A key has expired", said, command, str(path))
    yield "keys", f"{sum(key.is_good for key in keys)} in {path}"


def of_file(path: Path) -> Iterator[Found]:
    """Look at the file of a log in SQLite, and at the disk that it is on."""
    folder = path.absolute().parent
    if not folder.is_dir():
        yield Diagnosis(
            "NO_FOLDER", "critical", "The log has no folder", f"{folder} is not there", f"mkdir -p {folder}"
        )
        return
    yield from _of_disk(folder)
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(folder, os.W_OK):
        said = f"{path} or its folder cannot be written by this user"
        yield Diagnosis("READ_ONLY", "critical", "The log cannot be written", said, f"ls -la {folder}")
    elif os.name == "posix" and mode & 0o002:
        said = f"{path} has mode {mode:04o}: every user of this machine can change what happened"
        yield Diagnosis("WRITABLE_BY_ALL", "warning", "Everybody can write the log", said, f"chmod o-rwx {path}*")
    elif os.name == "posix" and mode & 0o004:
        said = f"{path} has mode {mode:04o}: every user of this machine can read it"
        yield Diagnosis("READABLE_BY_ALL", "info", "Everybody can read the log", said, f"chmod o-rwx {path}*")
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and (size := wal.stat().st_size) > LARGE_WAL:
        said = f"{wal} has {size >> 20:,} MiB: a program keeps an old view of the log open, so that it cannot shrink"
        yield Diagnosis("LARGE_WAL", "warning", "The log's journal grows", said, f"fuser -v {path}")


def _of_disk(folder: Path) -> Iterator[Found]:
    system = file_system(folder)
    if system in NETWORKS:
        said = f"{folder} is on {system}, where SQLite's processes cannot see each other: logs have been lost so"
        yield Diagnosis("NETWORK_DISK", "critical", "The log is on a network disk", said, "refold store migrate --help")
    free = shutil.disk_usage(folder).free
    if free < LITTLE:
        said = f"{free >> 20:,} MiB are free on the disk of {folder}; when none are, appends are refused"
        severity: Severity = "critical" if free < VERY_LITTLE else "warning"
        yield Diagnosis("LITTLE_SPACE", severity, "The disk is nearly full", said, f"df -h {folder}")
    else:
        yield "disk", f"{free >> 30:,} GiB free{f' on {system}' if system else ''}"


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on; empty where the machine does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    wanted, best, found = str(folder.resolve()), -1, ""
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ").rstrip("/")
        if (wanted == place or wanted.startswith(f"{place}/")) and len(place) >= best:
            best, found = len(place), kind
    return found


def secrets_of(url: str) -> list[str]:
    """Return what of an address nobody else may see."""
    parts = urlsplit(url)
    asked = parse_qsl(parts.query)
    given = [value for name, value in asked if any(word in name.lower() for word in SECRET_NAMES)]
    given.append(parts.password or "")
    return sorted({form for each in given if each for form in (each, unquote(each))}, key=len, reverse=True)
