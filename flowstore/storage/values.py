"""Values of a storage: results and errors, encoded to records and back."""

from __future__ import annotations

from typing import Any

from flowstore.encoding.pipeline import DEFAULT_PIPELINE, Pipeline
from flowstore.record import ERROR, RESULT, Key, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.storage.base import ExcInfo
from flowstore.storage.records import Records


class Values(Records):
    """Store and retrieve values."""

    pipeline: Pipeline = DEFAULT_PIPELINE
    """How values are encoded to records and decoded. Set from the storage's entry."""

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return self.pipeline.decode(self.get(Key(flow_name, task_name, task_id)))

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> str:
        ref = Ref(RESULT, Key(flow_name, task_name, task_id))
        self.put(self.pipeline.encode(ref, result))
        return ref.address.hex()

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> str:
        ref = Ref(ERROR, Key(flow_name, task_name, task_id))
        self.put(self.pipeline.encode_error(ref, exc_info[1], {"node_args": node_args}))
        return ref.address.hex()

    def retrieve_error(self, flow_name: str, task_name: str, task_id: str) -> RemoteTaskError:
        """Return the error that ended a task, as an exception with the failure as data in it.

        Raises:
            NotFoundError: no error is stored.
        """
        return self.pipeline.decode_error(self.get(Key(flow_name, task_name, task_id), ERROR))
