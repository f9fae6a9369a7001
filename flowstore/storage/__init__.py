"""The two bases of adapters: ``DataStorage``, the minimum, and ``RecordStorage``, the full contract."""

from __future__ import annotations

from flowstore.storage.minimum import DataStorage, ExcInfo, keeps_errors
from flowstore.storage.upkeep import Upkeep
from flowstore.storage.values import Values

__all__ = ["DataStorage", "ExcInfo", "RecordStorage", "keeps_errors"]


class RecordStorage(Values, Upkeep):
    """An adapter that keeps records, from which everything else follows.

    An adapter implements ``connect``, ``disconnect``, ``is_connected`` and the methods with a leading underscore; it
    overrides ``_get_many`` where its database can batch, and ``_translate`` to turn its driver's exceptions into
    flowstore's. All public methods may be called from several threads, and repeated without harm.

    The revision of a record starts at 1 and grows by one with each replacement.
    """
