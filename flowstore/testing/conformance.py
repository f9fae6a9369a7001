"""Run the kit without a test class, for ``flowstore conformance``.

The configuration is an application's file. Two variables in it give each test an empty place: ``TEST_FOLDER`` is an
empty folder, ``TEST_NAME`` a unique name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from flowstore.config import loading
from flowstore.config.adapters import adapter_class
from flowstore.errors import ConfigurationError
from flowstore.storage import DataStorage, RecordStorage
from flowstore.testing.base import Adapter
from flowstore.testing.suites import DataStorageTests, StorageTests

_JOB: Final = "job.json"
_MODULE: Final = f"""\
from pathlib import Path

from flowstore.testing.conformance import suite

TestAdapter = suite(__name__, Path(__file__).with_name("{_JOB}"))
"""
# Used instead of any pytest.ini in the current folder, which is for the user's own tests.
_SETTINGS: Final = "[pytest]\nfilterwarnings = error\nxfail_strict = true\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What to test, and with what.

    Attributes:
        adapter: ``module:Class``.
        file: a configuration with a storage of this class; ``None`` if the class needs no arguments.
        storage: the storage's name, if the file has several of this class.
        lacks: as in ``AdapterTests``.
        purge: whether to empty the storage before each test.
    """

    adapter: str
    file: str | None = None
    storage: str | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    purge: bool = False

    def adapter_class(self) -> type[DataStorage]:
        """Return the adapter's class.

        Raises:
            ConfigurationError: it can't be imported, or is not an adapter.
        """
        module, _, name = self.adapter.partition(":")
        if not module or not name:
            raise ConfigurationError(f"{self.adapter!r} is not of the form module:Class")
        try:
            adapter_class = getattr(import_module(module), name)
        except (ImportError, AttributeError) as exc:
            raise ConfigurationError(f"can't import {self.adapter}: {exc}") from exc
        if not (isinstance(adapter_class, type) and issubclass(adapter_class, DataStorage)):
            raise ConfigurationError(f"{self.adapter} is not an adapter: it must be a subclass of DataStorage")
        return adapter_class

    def configuration(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the ``configuration`` with these variables expanded.

        Raises:
            ConfigurationError: the file is invalid, or does not have exactly one storage of this class.
        """
        if self.file is None:
            return {}
        entries = loading.load(self.file, environ=environ).storages
        wanted = self.adapter_class()
        fitting = [
            entry for entry in entries.values() if adapter_class(entry) is wanted and self.storage in (None, entry.name)
        ]
        if len(fitting) != 1:
            names = ", ".join(entry.name for entry in fitting) or "none"
            raise ConfigurationError(
                f"{self.file} must have exactly one storage of the class {self.adapter}; it has: {names}. "
                "Select one with --storage NAME"
            )
        literal: dict[str, Any] = _literal(dict(fitting[0].configuration))
        return literal

    def check(self) -> None:
        """Check the adapter and its arguments, without connecting.

        Raises:
            ConfigurationError: the adapter does not exist, or its arguments are wrong or missing.
        """
        adapter = Adapter(self.adapter_class(), self.configuration(_variables("/one", "one")))
        try:
            adapter.make()
        except ConfigurationError as exc:
            if self.file is not None:
                raise
            raise ConfigurationError(
                f"{self.adapter} needs arguments; pass a configuration with --config. {exc}"
            ) from exc

    def has_empty_places(self) -> bool:
        """Return whether each test gets an empty place."""
        if self.purge or "instances" in self.lacks:
            return True
        return self.configuration(_variables("/one", "one")) != self.configuration(_variables("/other", "other"))


def run(job: Job, *, repeat: int = 1, select: str | None = None, options: Sequence[str] = ()) -> int:
    """Run the kit in a new process and return pytest's exit status."""
    with tempfile.TemporaryDirectory(prefix="flowstore-") as name:
        folder = Path(name)
        file = None if job.file is None else os.path.abspath(job.file)
        (folder / _JOB).write_text(json.dumps(asdict(job) | {"file": file}), encoding="utf-8")
        (folder / "pytest.ini").write_text(_SETTINGS, encoding="utf-8")
        module = folder / "test_conformance.py"
        module.write_text(_MODULE, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider"]
        command += [f"--rootdir={folder}", f"--confcutdir={folder}", "-c", str(folder / "pytest.ini")]
        command += [f"--basetemp={folder / 'tmp'}", f"--flowstore-repeat={repeat}", *options]
        command += ["-k", select] if select is not None else []
        # The tests and the processes that they start find users' adapters in the current folder.
        path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()])
        return subprocess.run([*command, str(module)], env={**os.environ, "PYTHONPATH": path}).returncode


def suite(module: str, job_file: Path) -> type[Any]:
    """Return the test class for a job; called by the module of ``run``."""
    job = Job(**json.loads(job_file.read_text(encoding="utf-8")))
    adapter = job.adapter_class()

    def configuration(self: Any, tmp_path: Path) -> Mapping[str, Any]:
        return job.configuration(_variables(str(tmp_path), f"test-{uuid.uuid4().hex}"))

    def emptied(self: Any, adapter: Adapter) -> Iterator[None]:
        with adapter.opened() as storage:
            storage.purge()
        yield

    members: dict[str, Any] = {
        "__module__": module,
        "storage_class": adapter,
        "lacks": job.lacks,
        "configuration": pytest.fixture(configuration),
    }
    if job.purge:
        members["emptied"] = pytest.fixture(autouse=True)(emptied)
    kit: type[Any] = StorageTests if issubclass(adapter, RecordStorage) else DataStorageTests
    return type(f"Test{adapter.__name__}", (kit,), members)


def _variables(folder: str, name: str) -> dict[str, str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith("FLOWSTORE_")}
    return mine | {"TEST_FOLDER": folder, "TEST_NAME": name}


def _literal(value: Any) -> Any:
    """Escape variables in a value; the kit parses it once more."""
    if isinstance(value, str):
        return value.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value
