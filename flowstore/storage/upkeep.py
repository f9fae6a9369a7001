"""Deleting tasks, runs, expired and old records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from flowstore.duration import Duration, seconds
from flowstore.errors import UnsupportedError
from flowstore.record import HISTORY, PIECE, RUN, Damaged, Key, Page, Query, Record, Ref, pages, survives_clear
from flowstore.record.damage import damage_reported_once, report_damage
from flowstore.storage.listing import selected
from flowstore.storage.orphans import Orphans

_BATCH = 500
_KEYS = 64


class Upkeep(Orphans):
    """Delete more than one record.

    All methods work in bounded batches, can be repeated, and can run in several processes at once. They delete only
    what they have read: records stored or replaced meanwhile stay. If an error is raised, some of the records may have
    been deleted.
    """

    allow_clear: bool = True
    """Whether ``clear`` and ``purge`` do anything; set from ``allow_clear`` of the storage's entry."""

    # What an adapter may override

    def _purge(self) -> int:
        """Delete all records and their indexes; return the number of records.

        Damaged and leftover ones too; pieces are not counted. Works in bounded batches, and leaves everything else in
        the database alone. The default deletes what it can list.
        """
        deleted = self._delete_selected(Query(), None, _BATCH, _any)
        self._delete_selected(Query(kinds=(PIECE,)), None, _BATCH, _any)
        return deleted

    def _of_keys(self, keys: Sequence[Key]) -> Iterator[Page]:
        """Read the heads of all records under some keys, a page at a time.

        Of every kind, expired or not.
        """
        by_task: dict[tuple[str, str], list[str]] = {}
        for key in keys:
            by_task.setdefault((key.flow_name, key.task_name), []).append(key.task_id)
        for (flow_name, task_name), task_ids in by_task.items():
            for start in range(0, len(task_ids), _KEYS):
                some = tuple(task_ids[start : start + _KEYS])
                query = Query(flow_name=flow_name, task_name=task_name, task_ids=some)
                yield from self._pages_of(query, _BATCH)

    def _scan_doomed(self, query: Query, cursor: str | None, limit: int) -> Page:
        """Return a page of heads as ``_scan`` does, in any order.

        A page should cost the same, however many records are selected.
        """
        return self._scan(query, cursor, limit, False)

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        """Return the runs with a record stored since a time and not expired.

        One round trip if the database supports it.
        """
        return {
            run_id
            for run_id in run_ids
            if self._scan(Query(run_id=run_id, stored_from=stored_from, live_at=now), None, 1, False).records
        }

    # Tasks and runs

    def delete_task(self, key: Key) -> int:
        """Delete all records under a key; return their number.

        Of every kind, expired or not.
        """
        return self.delete_tasks((key,))

    def delete_tasks(self, keys: Iterable[Key]) -> int:
        """Delete all records under several keys; return their number."""
        found = list(self._of_keys(list(dict.fromkeys(keys))))
        deleted = self._delete_all(one for page in found for one in page.records)
        return deleted + self._delete_damaged((one for page in found for one in page.damaged), _any)

    def delete_run(self, run_id: str, *, batch: int = _BATCH) -> int:
        """Delete a flow run; return the number of records.

        Deletes the records with its id, and the others under the keys of its tasks: results, errors, checkpoints,
        variables, blobs, claims and the run's record, expired or not, of every kind except history. Records with
        another run's id stay, even under the same key.

        """
        _check_batch(batch)
        deleted = 0
        for page in self._pages_of(Query(run_id=run_id), batch):
            # History of a run may be stored under the flow's key, which all runs share.
            of_tasks = [one for one in page.records if one.kind != HISTORY]
            keys = dict.fromkeys(one.key for one in of_tasks if one.kind != RUN or one.key.task_id == run_id)
            # Records with the id go last: a repeated call finds the others by them.
            beside = (one for found in self._of_keys(list(keys)) for one in found.records)
            deleted += self._delete_all(one for one in beside if _is_beside(one, run_id))
            deleted += self._delete_all(of_tasks)
            deleted += self._delete_damaged(page.damaged, lambda kind: kind != HISTORY)
        return deleted

    def runs_since(self, run_ids: Iterable[str], age: Duration) -> set[str]:
        """Return the runs with a record that is younger than ``age``."""
        now = self._time()
        try:
            return self._runs_since(list(run_ids), now - seconds(age), now)
        except Exception as exc:
            self._raise(exc)

    # The whole storage

    def cleanup(
        self,
        older_than: Duration | None = None,
        *,
        kinds: Iterable[str] | None = None,
        batch: int = _BATCH,
        keep: Callable[[Record], bool] | None = None,
        look: Callable[[Sequence[Record]], object] | None = None,
    ) -> int:
        """Delete expired and, if asked, old records; return their number.

        Without ``kinds``, orphans of blobs and large values are deleted too after a day; they are not counted. Records
        that can't be read are skipped and reported.

        Args:
            older_than: also delete records stored longer ago, by the storage's clock; those exactly that old stay. Of
                kinds that survive ``clear`` (variables, configuration, history) only expired records are deleted,
                unless ``kinds`` names them.
            kinds: only these kinds.
            batch: how many records are read and deleted at a time.
            keep: called with the head of each record to be deleted; return True to keep it.
            look: called with the heads of each batch, before ``keep`` is called for any of them.
        """
        _check_batch(batch)
        with damage_reported_once():
            return self._cleanup(older_than, kinds, batch, keep, look)

    def _cleanup(
        self,
        older_than: Duration | None,
        kinds: Iterable[str] | None,
        batch: int,
        keep: Callable[[Record], bool] | None,
        look: Callable[[Sequence[Record]], object] | None,
    ) -> int:
        wanted = None if kinds is None else tuple(kinds)
        _refuse_pieces(wanted or ())
        now = self._time()
        deleted = self._delete_selected(Query(kinds=wanted, expired_at=now), keep, batch, look=look)
        if wanted is None:
            self.remove_orphans()
        if older_than is None:
            return deleted
        old = Query(kinds=wanted, stored_before=now - seconds(older_than))

        def keep_old(record: Record) -> bool:
            return (wanted is None and survives_clear(record.kind)) or (keep is not None and keep(record))

        return deleted + self._delete_selected(old, keep_old, batch, look=look)

    def clear(self) -> int:
        """Delete all records except kinds that survive: see ``survives_clear``.

        These are variables, configuration, history, and kinds registered so.

        Returns:
            The number of records.

        Raises:
            UnsupportedError: the storage's entry says ``allow_clear: false``; nothing was deleted.
        """
        self._refuse("clear")
        return self._delete_selected(
            Query(),
            lambda record: survives_clear(record.kind),
            _BATCH,
            lambda kind: kind is not None and not survives_clear(kind),
        )

    def purge(self, kind: str | None = None) -> int:
        """Delete everything that flowstore stores here, or all of one kind.

        Data of other programs in the same database, bucket or folder is left alone, and so are tables and indexes. No
        process should be writing meanwhile: parts of what it stores may be deleted.

        Returns:
            The number of records.

        Raises:
            UnsupportedError: the storage's entry says ``allow_clear: false``; nothing was deleted.
        """
        self._refuse("purge")
        if kind is not None:
            _refuse_pieces((kind,))
            return self._delete_selected(Query(kinds=(kind,)), None, _BATCH, _any)
        try:
            deleted = self._purge()
            for content in self._contents():
                content.delete()
        except Exception as exc:
            self._raise(exc)
        return deleted

    def _refuse(self, operation: str) -> None:
        if not self.allow_clear:
            raise UnsupportedError(f"{operation}() is refused: the storage's entry says allow_clear: false")

    def _delete_selected(
        self,
        query: Query,
        keep: Callable[[Record], bool] | None,
        batch: int,
        damaged: Callable[[str | None], bool] = lambda _: False,
        look: Callable[[Sequence[Record]], object] | None = None,
    ) -> int:
        """Delete what a query selects, expired or not, a page at a time.

        Args:
            damaged: whether to delete an unreadable record, by its kind, if known.
        """
        deleted = 0
        for page in self._pages_of(query, batch):
            if look is not None:
                look(page.records)
            deleted += self._delete_all(one for one in page.records if keep is None or not keep(one))
            deleted += self._delete_damaged(page.damaged, damaged)
        return deleted

    def _delete_damaged(self, found: Iterable[Damaged], goes: Callable[[str | None], bool]) -> int:
        """Delete unreadable records, or report them."""
        deleted = 0
        for one in found:
            ref: Ref | None = one.error.ref
            if not goes(one.kind if ref is None else ref.kind) or (one.delete is None and ref is None):
                report_damage(one.error)
            elif ref is not None:
                deleted += self.delete_many([ref])
            elif one.delete is not None:
                try:
                    deleted += one.delete()
                except Exception as exc:
                    self._raise(exc)
        return deleted

    def _pages_of(self, query: Query, size: int) -> Iterator[Page]:
        """Read the heads that a query selects, expired or not, in pages."""
        try:
            for page in pages(lambda cursor: self._scan_doomed(query, cursor, size)):
                yield selected(query, page)
        except Exception as exc:
            self._raise(exc)

    def _delete_all(self, records: Iterable[Record]) -> int:
        seen = list(records)
        return sum(self.delete_seen(seen[start : start + _BATCH]) for start in range(0, len(seen), _BATCH))


def _refuse_pieces(kinds: Iterable[str]) -> None:
    if PIECE in kinds:
        raise ValueError(f"{PIECE!r} can't be deleted by kind: pieces are deleted with their records")


def _is_beside(record: Record, run_id: str) -> bool:
    """Return whether a record without the run's id belongs to the run."""
    if record.kind == RUN:
        return record.run_id != run_id and record.key.task_id == run_id
    return record.run_id is None and record.kind != HISTORY


def _any(_: str | None) -> bool:
    return True


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
