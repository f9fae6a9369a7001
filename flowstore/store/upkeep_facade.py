"""Deleting what nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from flowstore.duration import Duration
from flowstore.store.upkeep import STALLED_AFTER, Upkeep


class UpkeepFacade:
    """The part of ``FlowStore`` that deletes more than a task's records."""

    flow_upkeep: Upkeep

    def cleanup(
        self,
        older_than: Duration | None = None,
        storage: str | None = None,
        *,
        kinds: Iterable[str] | None = None,
        stalled_after: Duration = STALLED_AFTER,
    ) -> int:
        """Delete what has expired, and on request what is old; return the number of records.

        Works in bounded batches. May be interrupted, repeated, and run in several processes at once.

        What has expired goes at once, since nobody can read it any more. Of what is merely old, everything stays that
        carries the id of a run in progress. A run is in progress

        - while the newest of its records, in all storages in use, is younger than ``older_than``; and
        - if it was started with ``start``: until its result, or the error that ended it, is stored, but no longer than
          ``stalled_after`` after its newest record.

        So a run's records go together, counted from the last one. Nothing goes of tasks with ``storage_readonly``.

        Args:
            older_than: delete what was stored before that span of time too: seconds, a ``timedelta``, or a text such as
                ``"30d"``. What is exactly that old stays. Variables, configuration and history stay, unless ``kinds``
                names them.
            storage: a storage by its configured name; ``None`` for all that keep records and are in use.
            kinds: only these kinds.
            stalled_after: how long a run may store nothing, without having ended, before it counts as lost.

        Raises:
            UnknownStorageError: no such storage is declared.
            UnsupportedError: the storage keeps no records.
            StorageError: a storage failed; a part may have been deleted.
        """
        return self.flow_upkeep.cleanup(older_than, storage, kinds, stalled_after)

    def delete_run(self, run_id: str) -> int:
        """Delete a run in all storages in use; return the number of records.

        Its results, errors, checkpoints, variables, blobs, claims and own record go. History stays, and so does
        everything that carries another run's id: also runs that this one has started.

        Raises:
            ReadonlyError: it has records of a task with ``storage_readonly``; nothing was deleted.
            StorageError: a storage failed; a part may have been deleted. The same call again deletes the rest.
        """
        return self.flow_upkeep.delete_run(run_id)

    def clear(self, storage: str) -> int:
        """Delete everything in a storage but variables, configuration, history and kinds registered to survive this.

        Returns:
            The number of records.

        Raises:
            UnknownStorageError: no such storage is declared.
            UnsupportedError: it has ``allow_clear: false``, or keeps no records; nothing was deleted.
        """
        return self.flow_upkeep.clear(storage)

    def purge(self, storage: str, kind: str | None = None) -> int:
        """Delete everything that flowstore keeps in a storage, or everything of one kind.

        What other programs keep in the same database, bucket or folder stays. Nobody should be storing there meanwhile.

        Returns:
            The number of records.

        Raises:
            UnknownStorageError: no such storage is declared.
            UnsupportedError: it has ``allow_clear: false``, or keeps no records; nothing was deleted.
        """
        return self.flow_upkeep.purge(storage, kind)
