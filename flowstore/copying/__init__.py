"""Moving what is stored: from one storage to another, to a file and back, and comparing two storages.

A copy tells by its token whether a record has arrived already, or by its bytes where it has none. So a copy, or an
import, that was killed is completed by running it again.
"""

from __future__ import annotations

from flowstore.copying.compare import VerifyResult, verify
from flowstore.copying.copy import copy
from flowstore.copying.export_file import Exported, export_records, import_records
from flowstore.copying.lines import open_export
from flowstore.copying.outcome import CopyResult, OnConflict, Problem

__all__ = [
    "CopyResult",
    "Exported",
    "OnConflict",
    "Problem",
    "VerifyResult",
    "copy",
    "export_records",
    "import_records",
    "open_export",
    "verify",
]
