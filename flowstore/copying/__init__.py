"""Copying records between storages and files, and comparing storages.

A copy recognizes records that have already arrived by their token, or by their bytes if they have none. So a copy or an
import that was killed is completed by running it again.
"""

from __future__ import annotations

from flowstore.copying.copy import copy
from flowstore.copying.export import Exported, export_records, import_records
from flowstore.copying.jsonl import open_export
from flowstore.copying.results import CopyResult, OnConflict, Problem
from flowstore.copying.verify import VerifyResult, verify

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
