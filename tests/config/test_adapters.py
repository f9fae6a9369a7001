"""Which class an entry names: a built-in, an own or a published adapter; and what is refused as none."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from flowstore import ConfigurationError
from flowstore.config import StorageEntry
from flowstore.config.adapters import adapter_class
from flowstore.config.loading import load
from tests.config.kit import hint_of, refused


def test_the_built_in_adapters_need_no_import() -> None:
    configuration = load(
        {
            "storages": [
                {"name": "MemoryStorage"},
                {
                    "name": "S",
                    "classname": "SqlStorage",
                    "configuration": {"connection_string": "sqlite://", "echo": "no"},
                },
            ]
        },
        environ={},
    )
    assert adapter_class(configuration.storages["MemoryStorage"]).__name__ == "MemoryStorage"
    assert configuration.storages["S"].configuration == {"connection_string": "sqlite://", "echo": False}


def test_selinons_documented_entry_loads_as_it_is() -> None:
    arguments = {"connection_string": "sqlite://", "encoding": "utf-8", "echo": False}
    selinon = {
        "name": "MySqlStorage",
        "classname": "SqlStorage",
        "import": "selinon.storage",
        "configuration": arguments,
    }
    configuration = load({"storages": [selinon]}, environ={})
    assert configuration.storages["MySqlStorage"].configuration == arguments
    assert adapter_class(configuration.storages["MySqlStorage"]).__module__.startswith("flowstore.storages")


@pytest.mark.parametrize(
    ("classname", "module", "message"),
    [
        ("CassandraStorage", "flowstore.storages", "classname: unknown adapter 'CassandraStorage'"),
        ("import_module", "flowstore.storages", "classname: unknown adapter 'import_module'"),
        ("__dir__", "flowstore.storages", "classname: unknown adapter '__dir__'"),
        ("os.system", "flowstore.storages", "classname: 'os.system' is not a class name"),
        ("sql.SqlStorage", "flowstore.storages", "classname: 'sql.SqlStorage' is not a class name"),
        ("Base()", "adapters_of_test", "classname: 'Base()' is not a class name"),
        ("Base", "..adapters_of_test", "import: '..adapters_of_test' is not a module name"),
        ("Base", "adapters_of_test;x", "import: 'adapters_of_test;x' is not a module name"),
        ("Missing", "adapters_of_test", "classname: the module 'adapters_of_test' has no class 'Missing'"),
        ("Foreign", "adapters_of_test", "classname: 'Foreign' is not an adapter"),
        ("function", "adapters_of_test", "classname: 'function' is not a class, but of type partial"),
        ("DataStorage", "flowstore", "classname: 'DataStorage' does not define connect, disconnect, is_connected,"),
        ("Half", "adapters_of_test", "classname: 'Half' does not define disconnect, is_connected, retrieve, store"),
        ("Driven", "adapters_of_test", "classname: 'Driven' needs no_such_driver_anywhere, which is not installed"),
        ("Base", "no_such_module.x", "import: can't import the module 'no_such_module.x': ModuleNotFoundError: "),
        ("X", "broken_of_test", "import: can't import the module 'broken_of_test': ZeroDivisionError: division"),
        ("X", "exiting_of_test", "import: can't import the module 'exiting_of_test': SystemExit: 3"),
        ("X", "lazy_of_test", "classname: can't load 'X': ImportError: no driver"),
    ],
)  # fmt: skip
def test_what_is_no_adapter_is_refused(modules: Path, classname: str, module: str, message: str) -> None:
    (modules / "broken_of_test.py").write_text("1 / 0")
    (modules / "exiting_of_test.py").write_text("raise SystemExit(3)")
    (modules / "lazy_of_test.py").write_text("def __getattr__(name): raise ImportError('no driver')")
    (found,) = refused(classname, module=module)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("classname", "module", "hint"),
    [
        ("SQLStorage", "flowstore.storages", "Did you mean 'SqlStorage'?"),
        (
            "Zzz",
            "flowstore.storages",
            "FileStorage, MemoryStorage, MongoStorage, RedisStorage, RoutingStorage, S3Storage",
        ),
        ("SqlStorage", "elsewhere.storage", "The built-in adapters are in 'flowstore.storages'; your own module must"),
        ("Typd", "adapters_of_test", "Did you mean 'Typed'?"),
        ("Driven", "adapters_of_test", "Run: pip install 'flowstore[redis]'"),
        ("DrivenByOthers", "adapters_of_test", "Install it."),
    ],
)
def test_what_was_meant_is_guessed(modules: Path, classname: str, module: str, hint: str) -> None:
    assert hint in (hint_of(classname, module=module) or "")


def test_adapter_class_of_an_entry_that_was_never_checked() -> None:
    with pytest.raises(ConfigurationError, match="storage 'A': unknown adapter 'Nope'") as caught:
        adapter_class(StorageEntry("A", "Nope"))
    assert len(caught.value.mistakes) == 1


def test_an_entry_knows_whether_its_class_keeps_records(modules: Path) -> None:
    entries = [{"name": "MemoryStorage"}, {"name": "Nothing", "import": "adapters_of_test"}]
    storages = load({"storages": entries}, environ={}).storages
    assert [entry.keeps_records for entry in storages.values()] == [True, False]


def publish(folder: Path, value: str) -> None:
    info = folder / "published_of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: published-of-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[flowstore.storages]\nPublished = {value}\nMemoryStorage = {value}\n")
    importlib.invalidate_caches()


def test_a_published_adapter_needs_no_import(modules: Path) -> None:
    publish(modules, "adapters_of_test:Typed")
    configuration = load(
        {"storages": [{"name": "Published", "configuration": {"host": "h"}}, {"name": "MemoryStorage"}]}, environ={}
    )
    assert adapter_class(configuration.storages["Published"]).__name__ == "Typed"
    assert adapter_class(configuration.storages["MemoryStorage"]).__module__ == "flowstore.storages.memory"
    assert hint_of("Publishd", module="flowstore.storages") == "Did you mean 'Published'?"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("adapters_of_test:Foreign", "'Published' is not an adapter"),
        ("no_such_module:X", "can't load the published adapter 'Published': ModuleNotFoundError"),
    ],
)
def test_a_published_adapter_is_checked_too(modules: Path, value: str, message: str) -> None:
    publish(modules, value)
    assert refused("Published", module="flowstore.storages")[0].startswith(f"classname: {message}")
