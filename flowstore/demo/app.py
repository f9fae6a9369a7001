"""The demo's Celery app and its canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import Celery, chain, group

from flowstore.demo import tasks
from flowstore.demo.sources import Selection
from flowstore.store import FlowStore

FLOW = "survey"
CONFIGURATION_FILE = "flowstore.yaml"

_BROKER = ("messages", "processed", "control")
_BACKEND = "celery-results"


def create_app(folder: Path) -> tuple[Celery, FlowStore]:
    """Return the app for a folder, and its attached FlowStore."""
    for name in (*_BROKER, _BACKEND):
        (folder / name).mkdir(exist_ok=True)
    messages, processed, control = (str(folder / name) for name in _BROKER)
    app = Celery("flowstore.demo", set_as_current=False)
    app.conf.update(
        demo_folder=str(folder),
        broker_url="filesystem://",
        broker_transport="flowstore.demo.broker:Transport",
        broker_transport_options={
            "data_folder_in": messages,
            "data_folder_out": messages,
            "store_processed": True,
            "processed_folder": processed,
            "control_folder": control,
            "polling_interval": 0.02,
        },
        broker_connection_retry_on_startup=False,
        result_backend=f"file://{folder / _BACKEND}",
        result_chord_retry_interval=0.3,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=8,
    )
    app.task(name=tasks.INVENTORY, bind=True)(tasks.inventory)
    app.task(name=tasks.INSPECT)(tasks.inspect)
    app.task(name=tasks.SUMMARIZE)(tasks.summarize)
    app.task(name=tasks.PUBLISH, bind=True)(tasks.publish)
    return app, FlowStore(folder / CONFIGURATION_FILE, app=app)


def canvas(app: Celery, selection: Selection) -> Any:
    """Return the flow: a chain with a chord.

    Its first task also starts a group.
    """
    inventory, inspect, summarize, publish = (
        app.tasks[name] for name in (tasks.INVENTORY, tasks.INSPECT, tasks.SUMMARIZE, tasks.PUBLISH)
    )
    broken = [[source.module, source.path] for source in selection.broken]
    return chain(
        inventory.s([source.path for source in selection.sound], broken),
        group([inspect.si(source.module, source.path) for source in selection.sound], app=app),
        summarize.s(),
        publish.s(),
        app=app,
    )
