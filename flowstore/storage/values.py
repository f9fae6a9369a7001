"""Values of a storage: results and errors, encoded to records and back."""

from __future__ import annotations

from typing import Any

from flowstore import pipeline
from flowstore.failure import RemoteTaskError
from flowstore.record import ERROR, RESULT, Key, Ref
from flowstore.storage.minimum import ExcInfo
from flowstore.storage.records import Records


class Values(Records):
    """The operations on values."""

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return pipeline.decode(self.get(Key(flow_name, task_name, task_id)))

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> str:
        ref = Ref(RESULT, Key(flow_name, task_name, task_id))
        self.put(pipeline.encode(ref, result))
        return ref.address.hex()

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> str:
        ref = Ref(ERROR, Key(flow_name, task_name, task_id))
        self.put(pipeline.encode_error(ref, exc_info[1], {"node_args": node_args}))
        return ref.address.hex()

    def retrieve_error(self, flow_name: str, task_name: str, task_id: str) -> RemoteTaskError:
        """Return the error that ended a task: an exception that can be raised, with the failure as data in it.

        Raises:
            NotFoundError: the task left none.
        """
        return pipeline.decode_error(self.get(Key(flow_name, task_name, task_id), ERROR))
