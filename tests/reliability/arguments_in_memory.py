"""Run tasks with large arguments as a worker does, and print how much memory that took at most, in bytes.

usage: python -m tests.reliability.arguments_in_memory plain|attached TASKS BYTES
"""

from __future__ import annotations

import gc
import sys
import tempfile
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer

from flowstore import FlowStore
from tests.peak import peak


def main(kind: str, tasks: int, size: int) -> int:
    app = Celery("arguments", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="measure", shared=False)
    def measure(text: str) -> int:
        return len(text)

    with tempfile.TemporaryDirectory() as folder:
        arguments = {"connection_string": f"sqlite:///{folder}/r.db"}
        entry = {"name": "S", "classname": "SqlStorage", "configuration": arguments}
        store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
        store.store("f", "t", "1", 1)  # both have loaded the same
        if kind == "attached":
            store.attach(app)
        app.finalize()
        trace = build_tracer("measure", app.tasks["measure"], app=app)

        def run(number: int, length: int) -> None:
            text = "x" * length
            request: dict[str, Any] = {"id": str(number), "task": "measure", "args": [text], "kwargs": {}, "retries": 0}
            request |= {"hostname": "w", "is_eager": False, "delivery_info": {}, "root_id": str(number), "headers": {}}
            request |= {"parent_id": None, "called_directly": False, "correlation_id": str(number)}
            trace(str(number), [text], {}, request=request)

        for number in range(50):
            run(number, 10)
        # What only the collector of cycles frees stays, as it may in a worker that has little else to collect.
        gc.collect()
        gc.disable()
        before = peak()
        for number in range(tasks):
            run(1000 + number, size)
        taken = peak() - before
        store.close()
    return taken


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
