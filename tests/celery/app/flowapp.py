"""A Celery app whose broker, result backend and storages are in one folder."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import kombu.transport
from celery import Celery
from kombu.transport import filesystem
from kombu.utils.json import dumps

from flowstore import FlowStore
from tests.celery.app import ending_tasks, state_tasks, tasks


class App(Celery):
    """Keep its tasks to itself; Celery would give them to every other app of the process as well."""

    def task(self, *args: Any, **options: Any) -> Any:
        return super().task(*args, **{"shared": False, **options})


class Channel(filesystem.Channel):
    """A message appears in the folder complete: one that is read while it is being written would end the worker."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        path = Path(self.data_folder_out, f"{time.monotonic_ns():020}_{uuid.uuid4()}.{queue}.msg")
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(dumps(payload))
        unfinished.rename(path)


class Transport(filesystem.Transport):
    Channel = Channel


kombu.transport.TRANSPORT_ALIASES["folder"] = f"{__name__}:Transport"


def default_settings(folder: Path, **configuration: Any) -> dict[str, Any]:
    """Return settings for a folder: no server, and a storage of each kind."""

    def database(name: str) -> dict[str, Any]:
        return {"connection_string": f"sqlite:///{folder}/{name}.db"}

    def switched(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "classname": "SwitchedStorage",
            "import": "tests.celery.adapters",
            "configuration": {**database(name.lower() + "-switched"), "switch": f"{folder}/switch"},
            "on_store_error": {"retry": 4} if name == "Retry" else name.lower(),
        }

    def own(name: str, **arguments: Any) -> dict[str, Any]:
        return {"name": name, "import": "tests.celery.adapters", "configuration": arguments}

    return {
        "broker": "folder://",
        "backend": f"file://{folder}/results",
        "celery": {},
        "configuration": {
            "storages": [
                {"name": "Main", "classname": "SqlStorage", "configuration": database("main")},
                {"name": "Keep", "classname": "SqlStorage", "configuration": database("keep"), "on_conflict": "keep"},
                {
                    "name": "Error",
                    "classname": "SqlStorage",
                    "configuration": database("error"),
                    "on_conflict": "error",
                },
                switched("Retry"),
                switched("Fail"),
                switched("Log"),
                own("LedgerStorage", folder=f"{folder}/ledger"),
                own("ResultsOnlyStorage", folder=f"{folder}/ledger"),
                own("BrokenStorage"),
                own("GatedStorage", **database("gated"), gates=f"{folder}/gates"),
                {"name": "Files", "classname": "FileStorage", "configuration": {"path": f"{folder}/files"}},
            ],
            "tasks": [
                {"name": "aliased", "storage": "Main", "storage_task_name": "nickname"},
                {"name": "unstored", "storage": None},
                {"name": "unstored_fail", "storage": None},
                {"name": "readonly", "storage": "Main", "storage_readonly": True},
                {"name": "checked", "storage": "Main", "output_schema": f"{folder}/checked.json"},
                {"name": "ledger", "storage": "LedgerStorage"},
                {"name": "ledger_fail", "storage": "LedgerStorage"},
                {"name": "results_only", "storage": "ResultsOnlyStorage"},
                {"name": "results_only_fail", "storage": "ResultsOnlyStorage"},
                {"name": "broken", "storage": "BrokenStorage"},
                {"name": "broken_fail", "storage": "BrokenStorage"},
                *(
                    {"name": f"{what}_on_{policy.lower()}", "storage": policy}
                    for what in ("store", "fail")
                    for policy in ("Retry", "Fail", "Log")
                ),
                *({"name": f"redelivered_{policy}", "storage": policy.title()} for policy in ("keep", "error")),
                {"name": "gated", "storage": "GatedStorage"},
                {"name": "gated_successor", "storage": "GatedStorage"},
            ],
            "flows": [
                {"name": "in files", "storage": "Files"},
                {"name": "noted", "history": "all"},
                {"name": "errors noted", "history": "errors"},
            ],
            "global": {"default_storage": "Main"},
            **configuration,
        },
    }


def build(folder: Path) -> tuple[Celery, FlowStore]:
    """Make the app of a folder from the settings in it; in clients and workers alike."""
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "checked.json").write_text(json.dumps({"properties": {"price": {"type": "number"}}}))
    app = App("flowapp", broker=settings["broker"], backend=settings["backend"])
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "data_folder_in": f"{folder}/broker",
            "data_folder_out": f"{folder}/broker",
            "processed_folder": f"{folder}/processed",
            "control_folder": f"{folder}/control",
            "store_processed": True,
            "polling_interval": 0.01,
        }
        if settings["broker"] == "folder://"
        else {"visibility_timeout": 3600},
        task_allow_error_cb_on_chord_header=True,
        worker_timer_precision=0.05,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    app.conf.update(settings["celery"])
    app.task(name="before_attach")(tasks.double)
    store = FlowStore(settings["configuration"], app=app)
    tasks.register(app, folder)
    state_tasks.register(app, folder)
    ending_tasks.register(app, folder)
    app.finalize()
    app.task(name="after_finalize")(tasks.double)
    return app, store
