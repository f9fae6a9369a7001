"""What the tests of loading share."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore import ConfigurationError
from flowstore.config import StorageEntry
from flowstore.config.loading import load


def loaded(classname: str, configuration: Any = None, module: str = "adapters_of_test", **environ: str) -> StorageEntry:
    entry = {"name": "S", "classname": classname, "import": module, "configuration": configuration}
    return load({"storages": [entry]}, environ=environ).storages["S"]


def refused(classname: str, configuration: Any = None, module: str = "adapters_of_test", **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(classname, configuration, module, **environ)
    return [f"{each.path.removeprefix('storages.0.')}: {each.message}" for each in caught.value.mistakes]


def hint_of(classname: str, configuration: Any = None, module: str = "adapters_of_test") -> str | None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(classname, configuration, module)
    hint: str | None = caught.value.mistakes[0].hint
    return hint
