"""The conformance kit: tests for storage adapters.

::

    from flowstore.testing import StorageTests

    class TestAcme(StorageTests):
        storage_class = AcmeStorage

        @pytest.fixture
        def configuration(self, tmp_path):
            return {"path": str(tmp_path / "acme")}

``StorageTests`` is for a ``RecordStorage``, ``DataStorageTests`` for an adapter with only the six methods of
``DataStorage``. ``flowstore.testing.base.AdapterTests`` describes what a test class may define. pytest loads the kit's
plugin by itself: it adds ``--flowstore-repeat``, applies waivers and reports what was proven.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.testing.base import Adapter, AdapterTests, LostAnswer, Outage
    from flowstore.testing.samples import HOSTILE, record
    from flowstore.testing.suites import DataStorageTests, StorageTests

__all__ = ["HOSTILE", "Adapter", "AdapterTests", "DataStorageTests", "LostAnswer", "Outage", "StorageTests", "record"]

_MODULES = {
    "HOSTILE": "samples",
    "Adapter": "base",
    "AdapterTests": "base",
    "DataStorageTests": "suites",
    "LostAnswer": "base",
    "Outage": "base",
    "StorageTests": "suites",
    "record": "samples",
}


# Every run of pytest loads the plugin in this package; everything else is loaded on first use.
def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
