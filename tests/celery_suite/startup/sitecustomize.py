"""Attach flowstore to the app of every worker that a test starts as a process of its own.

Python imports this module at its start where this folder is on the path.
"""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_init

from tests.celery_suite.attached import attach


def _attach(instance: Any, **_: Any) -> None:
    attach(instance.app)


celeryd_init.connect(_attach, weak=False)
