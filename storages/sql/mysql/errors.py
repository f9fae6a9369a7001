"""What pymysql's exceptions mean."""

from __future__ import annotations

from typing import Final

import pymysql
from pymysql.constants import ER

from flowstore.errors import ConfigurationError, CorruptError, FlowstoreError, StorageError, UnreachableError

READ_ONLY: Final = (ER.OPTION_PREVENTS_STATEMENT, 1792, 1836)

_TOO_LATE: Final = "did not answer within the timeout"
_REFUSES: Final = "refuses the user, or has no such database"
_NO_ROOM: Final = "has no room: disk, memory or connections"
_GONE: Final = "is shutting down, or ended the connection"

# By the server's error codes; where the driver has no name for one, it is MariaDB's or newer than the driver.
_UNREACHABLE: Final = {
    **dict.fromkeys(READ_ONLY, "is read-only, as a replica is"),
    **dict.fromkeys((ER.LOCK_DEADLOCK, ER.CHECKREAD), "let another transaction go first"),
    ER.LOCK_WAIT_TIMEOUT: "is locked by another writer for longer than the timeout",
    **dict.fromkeys((1969, 3024), _TOO_LATE),
    **dict.fromkeys((ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, 1698, 1130, 1129, 3118, 4151), _REFUSES),
    **dict.fromkeys(
        (ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED, ER.OUT_OF_RESOURCES), _NO_ROOM
    ),
    **dict.fromkeys((ER.OUTOFMEMORY, ER.DISK_FULL, ER.RECORD_FILE_FULL), _NO_ROOM),
    **dict.fromkeys((ER.SERVER_SHUTDOWN, ER.QUERY_INTERRUPTED, 1047, 1158, 1159, 1160, 1161, 1927, 4031), _GONE),
}
_REFUSED: Final = {
    **dict.fromkeys((ER.NET_PACKET_TOO_LARGE, ER.DATA_TOO_LONG, 1301), "can't keep this: it is too large"),
    **dict.fromkeys(
        (ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR),
        "does not allow the user to do this",
    ),
    ER.NO_SUCH_TABLE: "has lost flowstore's tables",
}
_CORRUPT: Final = (ER.NOT_KEYFILE, ER.CRASHED_ON_USAGE, ER.CRASHED_ON_REPAIR, 1712, 1877)
_OF_CLIENT: Final = range(2000, 3000)


def translate(exc: BaseException, name: object) -> FlowstoreError | None:
    """Return the flowstore error that an exception of the driver means, or ``None`` for one that is a bug."""
    if isinstance(exc, OSError):
        return UnreachableError(f"{name} can't be reached ({exc})")
    if not isinstance(exc, pymysql.MySQLError):
        return None
    code = exc.args[0] if exc.args else None
    # Without a code, the driver met a connection that was closed, or an answer that makes no sense.
    if code in _OF_CLIENT or (isinstance(exc, pymysql.InterfaceError | pymysql.InternalError) and code in (0, None)):
        return UnreachableError(f"{name} can't be reached ({exc})")
    if code == ER.BAD_DB_ERROR:
        return ConfigurationError(f"{name} does not exist: create it, or name another one ({exc})")
    if code in _UNREACHABLE:
        return UnreachableError(f"{name} {_UNREACHABLE[code]} ({exc})")
    if code in _REFUSED:
        return StorageError(f"{name} {_REFUSED[code]} ({exc})")
    if code in _CORRUPT:
        return CorruptError(f"{name} is damaged ({exc})")
    return None
