"""The Celery integration: the only package that imports celery."""

from __future__ import annotations

from celery.exceptions import SoftTimeLimitExceeded

from flowstore.celery import forms
from flowstore.celery.attaching import attach, detach
from flowstore.celery.starting import start
from flowstore.interrupts import let_through

__all__ = ["attach", "detach", "start"]

let_through(SoftTimeLimitExceeded)
forms.install()
