"""The conformance kit: tests that prove what an adapter does, for whoever writes one.

::

    from flowstore.testing import StorageTests

    class TestAcme(StorageTests):
        storage_class = AcmeStorage

        @pytest.fixture
        def configuration(self, tmp_path):
            return {"path": str(tmp_path / "acme")}

``StorageTests`` is for a ``RecordStorage``, ``DataStorageTests`` for an adapter with no more than the six methods of
``DataStorage``. What an author may give besides is told by ``flowstore.testing.base.AdapterTests``. pytest finds the
plugin of the kit by itself: it adds ``--flowstore-repeat``, applies waivers and reports what was proven.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.testing.base import Adapter, AdapterTests, LostAnswer, Outage
    from flowstore.testing.samples import HOSTILE, record
    from flowstore.testing.suites import DataStorageTests, StorageTests

__all__ = ["HOSTILE", "Adapter", "AdapterTests", "DataStorageTests", "LostAnswer", "Outage", "StorageTests", "record"]

_HOMES = {
    "HOSTILE": "samples",
    "Adapter": "base",
    "AdapterTests": "base",
    "DataStorageTests": "suites",
    "LostAnswer": "base",
    "Outage": "base",
    "StorageTests": "suites",
    "record": "samples",
}


# The plugin lives in this package and is loaded by every run of pytest: nothing else is, before it is used.
def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
