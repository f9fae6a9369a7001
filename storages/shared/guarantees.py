"""What each database promises under the adapters: shown in the documentation, where it is compared."""

from __future__ import annotations

from typing import Final

from flowstore.storage import Guarantees

_EVERYTHING: Final = "everything"
_NOTHING: Final = "nothing"
_IN_ONE_STEP: Final = "yes"
_OWN_CLOCK: Final = "the machine's"

MEMORY: Final = (
    Guarantees(
        database="memory",
        shared_by="threads",
        process_ends=_NOTHING,
        server_crashes="there is none",
        power_fails=_NOTHING,
        one_winner=_IN_ONE_STEP,
        clock=_OWN_CLOCK,
        largest_record="as the memory allows",
    ),
)

FILE: Final = (
    Guarantees(
        database="files",
        shared_by="processes",
        process_ends=_EVERYTHING,
        server_crashes="there is none",
        power_fails="everything; with `durable: false` the last changes may be lost",
        one_winner="yes, on a local file system",
        clock=_OWN_CLOCK,
        largest_record="as the memory and the file system allow",
    ),
)

SQL: Final = (
    Guarantees(
        database="SQLite",
        shared_by="processes",
        process_ends=_EVERYTHING,
        server_crashes="there is none",
        power_fails="everything; with `synchronous: NORMAL` the last changes may be lost",
        one_winner="yes, on a local file system",
        clock=_OWN_CLOCK,
        largest_record="1 GB",
    ),
    Guarantees(
        database="PostgreSQL",
        shared_by="machines",
        process_ends=_EVERYTHING,
        server_crashes="everything, unless `synchronous_commit` is off",
        power_fails="everything, unless `synchronous_commit` or `fsync` is off",
        one_winner=_IN_ONE_STEP,
        clock="the server's",
        largest_record="1 GB",
    ),
    Guarantees(
        database="MySQL, MariaDB",
        shared_by="machines",
        process_ends=_EVERYTHING,
        server_crashes="everything, unless `innodb_flush_log_at_trx_commit` is 0",
        power_fails="everything, unless `innodb_flush_log_at_trx_commit` is 0 or 2",
        one_winner=_IN_ONE_STEP,
        clock="the server's",
        largest_record="`max_allowed_packet`, 16 MB by default",
    ),
)

REDIS: Final = (
    Guarantees(
        database="Redis, Valkey",
        shared_by="machines",
        process_ends=_EVERYTHING,
        server_crashes="everything with `appendonly yes`; without, what its last snapshot has",
        power_fails="everything with `appendfsync always`; with `everysec` the last second may be lost",
        one_winner="yes, but for a failover, which may lose the last changes",
        clock="the server's",
        largest_record="512 MB",
    ),
)

MONGO: Final = (
    Guarantees(
        database="MongoDB",
        shared_by="machines",
        process_ends=_EVERYTHING,
        server_crashes="everything with `journal: true`, the default",
        power_fails="everything with `write_concern: majority` and `journal: true`, the defaults",
        one_winner=_IN_ONE_STEP,
        clock="the server's",
        largest_record="16 MiB less 64 KiB, with its headers and key",
    ),
)

S3: Final = (
    Guarantees(
        database="S3",
        shared_by="machines",
        process_ends=_EVERYTHING,
        server_crashes="what the store keeps; AWS everything",
        power_fails="what the store keeps; AWS everything",
        one_winner="yes, where the store has conditional writes, which is tried; else refused",
        clock="the server's",
        largest_record="5 GiB",
    ),
)

_THEIRS: Final = "what the storage that keeps it promises"

ROUTING: Final = (
    Guarantees(
        database="the storages that it works on",
        shared_by="machines",
        process_ends=_THEIRS,
        server_crashes=_THEIRS,
        power_fails=_THEIRS,
        one_winner="as the record's home; nothing is won while that can't be reached",
        clock="the default storage's",
        largest_record=_THEIRS,
    ),
)
