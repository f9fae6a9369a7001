"""The app that ``worker_throughput`` runs; as a program it fills the queue."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery

from flowstore import FlowStore

KIND, FOLDER = os.environ["BENCH_KIND"], Path(os.environ["BENCH_FOLDER"])
PAYLOAD = {"name": "x" * 100, "numbers": list(range(20)), "ok": True}  # 200 B of JSON

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=KIND != "celery",
    result_backend=f"db+sqlite:///{FOLDER}/celery.db" if KIND == "celery" else None,
    worker_prefetch_multiplier=64,
    task_default_queue=f"bench-{FOLDER.name}",
    worker_hijack_root_logger=False,
)
if app.conf.broker_url.startswith("filesystem"):
    for name in ("in", "control"):
        (FOLDER / name).mkdir(exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(FOLDER / "in"),
        "data_folder_out": str(FOLDER / "in"),
        "control_folder": str(FOLDER / "control"),
        "polling_interval": 0.001,
    }
if KIND in ("FULL", "NORMAL"):
    FlowStore(
        {
            "storages": [
                {
                    "name": "Results",
                    "classname": "SqlStorage",
                    "configuration": {
                        "connection_string": f"sqlite:///{FOLDER}/results.db",
                        "synchronous": KIND,
                    },
                }
            ],
            "global": {"default_storage": "Results"},
        },
        app=app,
    )


@app.task(name="bench.produce")
def produce(number: int, total: int) -> dict[str, object]:
    if number == 0:
        (FOLDER / "first").touch()
    if number == total - 1:
        (FOLDER / "last").touch()
    return PAYLOAD


if __name__ == "__main__":
    count = int(sys.argv[1])
    for number in range(count):
        produce.delay(number, count)
