"""What tasks keep besides their results: checkpoints, variables, settings, history; and references to results."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flowstore.errors import InvalidKeyError
from flowstore.record import HISTORY, VARIABLE, Key, Query
from flowstore.record.querying import check_limit
from flowstore.record.reference import Reference
from flowstore.store.checkpoints import Checkpoints
from flowstore.store.documents import Documents
from flowstore.store.history import History, HistoryEntry, seconds
from flowstore.store.operations import Operations
from flowstore.store.routing import Route, Router


class StateFacade:
    """The part of ``FlowStore`` that is about the state of flows and tasks."""

    router: Router
    operations: Operations
    flow_history: History

    def checkpoints(self, flow_name: str, task_name: str, task_id: str, *, run_id: str | None = None) -> Checkpoints:
        """Return the checkpoints of a task: values by name that every execution of it finds. In its storage.

        Args:
            run_id: the run that they are deleted with; ``None`` for the one that the task's records name.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        route = self.router.required(flow_name, task_name)
        return Checkpoints(self.operations, route, Key(flow_name, route.task_name, task_id), run_id)

    def variables(self, flow_name: str, *, run_id: str | None = None) -> Documents:
        """Return variables: values by name that tasks share. In the flow's storage.

        Args:
            run_id: the run whose tasks share them, and with which they are deleted; ``None`` for those that all runs of
                the flow share.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        if run_id == "":
            raise InvalidKeyError("run_id must not be empty: leave it out for the variables that all runs share")
        # What all runs share is kept for ever, what is one run's as long as its results.
        expires_in = None if run_id is None else self.router.flow_expires_in(flow_name)
        route = Route(self.router.required_flow_storage(flow_name), "", expires_in=expires_in)
        return Documents(self.operations, route, VARIABLE, Key(flow_name, "", run_id or ""), run_id=run_id)

    def documents(self, kind: str, storage: str | None = None) -> Documents:
        """Return values by name that belong to no flow, such as those of the kind ``configuration``.

        Args:
            kind: their kind.
            storage: the configured name of their storage; ``None`` for the default one.

        Raises:
            UnknownStorageError: it is not declared, or there is no default.
        """
        return Documents(self.operations, Route(self.router.declared(storage), ""), kind, Key("", "", ""))

    # History

    def record_history(
        self,
        event: str,
        flow_name: str,
        *,
        run_id: str | None = None,
        task_name: str = "",
        task_id: str = "",
        data: object = None,
    ) -> HistoryEntry:
        """Append an entry to the history, in the flow's storage. It can't be changed afterwards.

        Args:
            event: what happened, in a word.
            data: more about it: anything that can be stored.

        Raises:
            UnknownStorageError: the flow has no storage.
            SerializationError: the data can't be stored.
            StorageError: the entry could not be stored.
        """
        name = self.router.stored_name(task_name) if task_name else ""
        return self.flow_history.record(event, Key(flow_name, name, task_id), run_id, data)

    def history(
        self,
        flow_name: str | None = None,
        *,
        run_id: str | None = None,
        task_name: str | None = None,
        task_id: str | None = None,
        events: Collection[str] | None = None,
        since: dt.datetime | float | None = None,
        until: dt.datetime | float | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> Iterator[HistoryEntry]:
        """Iterate over entries of the history, oldest first, reading a page at a time.

        What is not given is not asked for. The storages select all but the events, which are looked for in what they
        selected.

        Args:
            flow_name: without it, the storages of all flows are read.
            events: any of these.
            since, until: seconds since the epoch, or datetimes with a time zone; the first counts, the second does not.
            descending: the latest first.
            limit: how many at most.

        Raises:
            UnknownStorageError: the flow has no storage.
            ValueError: a datetime has no time zone, or the limit is negative.
        """
        check_limit(limit)
        query = Query(
            (HISTORY,),
            flow_name,
            None if task_name is None else self.router.stored_name(task_name),
            task_id,
            run_id,
            stored_from=seconds(since),
            stored_before=seconds(until),
            descending=descending,
        )
        return itertools.islice(self.flow_history.entries(query, events), limit)

    # References

    def reference(self, flow_name: str, task_name: str, task_id: str) -> Reference:
        """Return a reference to a task's result, whether it is stored yet or not. Asks no storage.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        route = self.router.required(flow_name, task_name)
        return Reference(route.storage.name, Key(flow_name, route.task_name, task_id))

    def load(self, reference: Reference | Mapping[str, Any]) -> Any:
        """Return the result that a reference stands for: an object of the caller's own.

        Args:
            reference: one that ``reference`` made, or the mapping that became of it on its way.

        Raises:
            SerializationError: it is no reference.
            UnknownStorageError: its storage is not declared here.
            NotFoundError, CorruptError, UnreachableError: as ``retrieve``.
        """
        if not isinstance(reference, Reference):
            reference = Reference.from_dict(reference)
        key = reference.key
        return self.operations.retrieve(Route(self.router.declared(reference.storage), key.task_name), key)
