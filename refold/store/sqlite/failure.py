"""What SQLite raises, turned into errors that say what to do."""

import errno
from pathlib import Path

import apsw

from refold.errors import NotAStore, StoreBusy, StoreDamaged, StoreError, StoreFull, StoreReadOnly

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_TRANSLATIONS: dict[type[apsw.Error], type[StoreError]] = {
    apsw.BusyError: StoreBusy,
    apsw.LockedError: StoreBusy,
    apsw.FullError: StoreFull,
    apsw.ReadOnlyError: StoreReadOnly,
    apsw.CantOpenError: StoreReadOnly,
    apsw.PermissionsError: StoreReadOnly,
    apsw.NotADBError: NotAStore,
    apsw.CorruptError: StoreDamaged,
    apsw.IOError: StoreDamaged,
}


class translated:  # noqa: N801 - reads as a word in `with translated(path):`
    """Turns what SQLite raises into a `StoreError`; an interrupted read passes through."""

    __slots__ = ("_connection", "_path")

    def __init__(self, path: Path, connection: apsw.Connection | None = None) -> None:
        self._path = path
        self._connection = connection

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, apsw.Error) or isinstance(error, apsw.InterruptError):
            return
        translation = StoreFull if self._lacks_space(error) else _TRANSLATIONS.get(type(error))
        if translation is None:
            raise StoreError(f"{self._path}: {error}") from error
        raise translation(f"{self._path}: {translation.__doc__} ({error})") from error

    def _lacks_space(self, error: apsw.Error) -> bool:
        """Tell a quota or a full disk from one that fails: SQLite calls all but the plainest case an IO error."""
        if not isinstance(error, apsw.IOError):
            return False
        kind: int = getattr(error, "extendedresult", 0)  # missing in apsw's stubs
        return kind == apsw.SQLITE_IOERR_SHMSIZE or (
            kind == apsw.SQLITE_IOERR_WRITE
            and self._connection is not None
            and self._connection.system_errno in _NO_SPACE
        )
