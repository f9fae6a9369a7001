"""Upkeep of a storage: deleting what belongs together."""

from __future__ import annotations

from flowstore.record import Key, Query
from flowstore.storage.records import Records


class Upkeep(Records):
    """The operations that delete more than one record."""

    def delete_task(self, key: Key) -> int:
        """Delete all that is stored under a key, of every kind, expired or not; return the number of records."""
        query = Query(flow_name=key.flow_name, task_name=key.task_name, task_id=key.task_id)
        try:
            refs = [record.ref for record in self._pages(query, False)]
        except Exception as exc:
            self._raise(exc)
        return self.delete_many(refs)
