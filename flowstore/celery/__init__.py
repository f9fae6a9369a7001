"""The Celery side of flowstore; the only package that imports celery."""

from __future__ import annotations

from flowstore.celery import forms
from flowstore.celery.attaching import attach
from flowstore.celery.starting import start

__all__ = ["attach", "start"]

forms.install()
