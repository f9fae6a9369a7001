"""A module of adapters that configurations in these tests name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ADAPTERS = """
from __future__ import annotations

import datetime
import enum
import functools
import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from flowstore import DataStorage

if TYPE_CHECKING:
    from nowhere import Unknown


class Base(DataStorage):
    def connect(self): raise AssertionError("connected")
    def disconnect(self): ...
    def is_connected(self): return False
    def retrieve(self, flow_name, task_name, task_id): ...
    def store(self, flow_name, task_name, task_id, result): ...


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


class Pool(BaseModel):
    size: int
    name: str = "x"


class Typed(Base):
    def __init__(
        self,
        host: str,
        port: int = 1,
        *,
        tls: bool = False,
        ratio: float = 1.0,
        maybe: int | None = None,
        either: int | str = 0,
        mode: Mode = Mode.FAST,
        level: Literal["low", "high"] = "low",
        hosts: list[str] = [],
        options: dict[str, int] = {},
        pool: Pool | None = None,
        wait: datetime.timedelta = datetime.timedelta(0),
        folder: pathlib.Path = pathlib.Path(),
        few: Annotated[int, Field(le=3)] = 1,
        password: str | None = None,
        key: SecretStr | None = None,
        loose=None,
        anything: Any = None,
        odd: Unknown = None,
        token=None,
    ) -> None:
        raise AssertionError("constructed")


class Untyped(Base):
    def __init__(self, host, port): raise AssertionError("constructed")


class Open(Base):
    def __init__(self, port: int, **others): raise AssertionError("constructed")


class Inherited(Typed):
    pass


@dataclass
class Data(Base):
    host: str
    port: int = 1


class Nothing(Base):
    pass


class Half(DataStorage):
    def connect(self): ...


class Driven(Base):
    requires: ClassVar = ("json", "no_such_driver_anywhere")
    extra: ClassVar = "redis"


class DrivenByOthers(Base):
    requires: ClassVar = ("no_such_driver_anywhere",)


class Foreign:
    pass


function = functools.partial(Base)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules that can be imported, and are forgotten after the test."""
    before = set(sys.modules)
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "adapters_of_test.py").write_text(ADAPTERS)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
