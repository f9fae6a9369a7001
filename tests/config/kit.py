"""Short ways to read and load configurations, and to see their mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowstore import ConfigurationError
from flowstore.config import Configuration, Mistake, StorageEntry, read
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


def reading(tmp_path: Path, text: str, **environ: str) -> tuple[Configuration, list[Mistake]]:
    file = tmp_path / "flowstore.yaml"
    file.write_text(text, encoding="utf-8")
    return read(file, environ=environ)


def mistakes_in(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """Every mistake as ``line:column: path: message hint``."""
    _, found = reading(tmp_path, text, **environ)
    return [str(each).splitlines()[0].removeprefix(f"{tmp_path}/flowstore.yaml:") for each in found]
