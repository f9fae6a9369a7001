"""What each database promises under the adapters: shown in the documentation, where it is compared."""

from __future__ import annotations

from typing import Final

from flowstore.storage import Guarantees

_EVERYTHING: Final = "everything"
_IN_ONE_STEP: Final = "yes"
_OWN_CLOCK: Final = "the machine's"

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
