"""Adapters and their arguments are checked without a single constructor being called."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowstore import ConfigurationError
from flowstore.config import Configuration, StorageEntry
from flowstore.loading import adapter_class, load

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


def test_only_a_record_storage_can_keep_or_refuse(modules: Path) -> None:
    plain = {"name": "P", "classname": "Nothing", "import": "adapters_of_test", "on_conflict": "keep"}
    with pytest.raises(ConfigurationError, match="'Nothing' can only replace what is stored") as caught:
        load({"storages": [plain, {"name": "MemoryStorage", "on_conflict": "keep"}]}, environ={})
    assert [mistake.path for mistake in caught.value.mistakes] == ["storages.0.on_conflict"]


def test_only_a_record_storage_can_keep_a_history(modules: Path) -> None:
    plain = {"name": "P", "classname": "Nothing", "import": "adapters_of_test"}
    storages = [{**plain, "history": "errors"}, {"name": "MemoryStorage", "history": "all"}]
    flows = [
        {"name": "in P", "storage": "P", "history": "all"},
        {"name": "in P, none", "storage": "P", "history": "none"},
        {"name": "by default", "history": "errors"},
        {"name": "fine", "storage": "MemoryStorage", "history": "errors"},
    ]
    with pytest.raises(ConfigurationError, match="'Nothing' can keep no history") as caught:
        load({"storages": storages, "flows": flows, "global": {"default_storage": "P"}}, environ={})
    found = [mistake.path for mistake in caught.value.mistakes]
    assert found == ["storages.0.history", "flows.0.history", "flows.2.history"]


def test_a_history_needs_a_storage() -> None:
    with pytest.raises(ConfigurationError, match="flow 'f' has no storage that could keep its history") as caught:
        load({"storages": [{"name": "MemoryStorage"}], "flows": [{"name": "f", "history": "all"}]}, environ={})
    assert [mistake.path for mistake in caught.value.mistakes] == ["flows.0.history"]
    # A storage that is not declared, or can't be used, is a mistake of its own.
    broken = {"storages": [{"name": "Missing"}], "flows": [{"name": "f", "history": "all", "storage": "Missing"}]}
    with pytest.raises(ConfigurationError) as caught:
        load(broken, environ={})
    assert [mistake.path for mistake in caught.value.mistakes] == ["storages.0.name"]


def test_history_may_be_given_by_a_variable() -> None:
    given = {"storages": [{"name": "MemoryStorage", "history": "{HISTORY}"}]}
    assert load(given, environ={"HISTORY": "errors"}).storages["MemoryStorage"].history == "errors"


def test_the_message_has_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("storages:\n  - name: Nope\n  - {name: S, classname: SqlStorage}\nzzz: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    message = str(caught.value)
    assert message.startswith(f"3 mistakes in {file}:\n{file}:2:11: storages.0.name: there is no adapter 'Nope'.")
    assert [str(each) in message for each in caught.value.mistakes] == [True] * 3
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_one_mistake_is_one() -> None:
    with pytest.raises(ConfigurationError, match=r"^1 mistake in <mapping>:\n"):
        load({"storages": [{"name": "Nope"}]}, environ={})
    with pytest.raises(ConfigurationError, match=r"^1 mistake in the configuration:\nno configuration was given"):
        load(environ={})


def test_storages_of_one_name_are_all_checked() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"storages": [{"name": "A", "classname": "One"}, {"name": "A", "classname": "Two"}]}, environ={})
    assert [each.path for each in caught.value.mistakes] == [
        "storages.1.name", "storages.0.classname", "storages.1.classname"
    ]  # fmt: skip


def test_a_misspelt_key_does_not_hide_what_is_wrong_below(modules: Path) -> None:
    entry = {"name": "S", "clasname": "Typed", "imprt": "adapters_of_test", "configuraton": {"hst": "h", "prt": "x"}}
    with pytest.raises(ConfigurationError) as caught:
        load({"storages": [entry]}, environ={})
    assert sorted(each.path for each in caught.value.mistakes) == [
        "storages.0.clasname",
        "storages.0.configuration.hst",
        "storages.0.configuration.port",
        "storages.0.configuration.prt",
        "storages.0.configuraton",
        "storages.0.imprt",
    ]


@pytest.mark.parametrize(
    ("classname", "module", "message"),
    [
        ("CassandraStorage", "flowstore.storages", "classname: there is no adapter 'CassandraStorage'"),
        ("import_module", "flowstore.storages", "classname: there is no adapter 'import_module'"),
        ("__dir__", "flowstore.storages", "classname: there is no adapter '__dir__'"),
        ("os.system", "flowstore.storages", "classname: 'os.system' is no class name"),
        ("sql.SqlStorage", "flowstore.storages", "classname: 'sql.SqlStorage' is no class name"),
        ("Base()", "adapters_of_test", "classname: 'Base()' is no class name"),
        ("Base", "..adapters_of_test", "import: '..adapters_of_test' is no module name"),
        ("Base", "adapters_of_test;x", "import: 'adapters_of_test;x' is no module name"),
        ("Missing", "adapters_of_test", "classname: the module 'adapters_of_test' has no class 'Missing'"),
        ("Foreign", "adapters_of_test", "classname: 'Foreign' is no adapter"),
        ("function", "adapters_of_test", "classname: 'function' is no class, but partial"),
        ("DataStorage", "flowstore", "classname: 'DataStorage' does not define connect, disconnect, is_connected,"),
        ("Half", "adapters_of_test", "classname: 'Half' does not define disconnect, is_connected, retrieve, store"),
        ("Driven", "adapters_of_test", "classname: 'Driven' needs no_such_driver_anywhere, which is not installed"),
        ("Base", "no_such_module.x", "import: the module 'no_such_module.x' can't be imported: ModuleNotFoundError: "),
        ("X", "broken_of_test", "import: the module 'broken_of_test' can't be imported: ZeroDivisionError: division"),
        ("X", "exiting_of_test", "import: the module 'exiting_of_test' can't be imported: SystemExit: 3"),
        ("X", "lazy_of_test", "classname: 'X' can't be loaded: ImportError: no driver"),
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


def test_places_are_those_of_the_right_keys(tmp_path: Path, modules: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        "storages:\n"
        "  - name: A\n    classname: Missing\n    import: adapters_of_test\n"
        "  - name: B\n    classname: X\n    import: no_such_module\n"
        "  - name: C\n    classname: Typed\n    import: adapters_of_test\n    configuration:\n      prt: 1\n"
        "      hosts:\n        - a\n        - 2\n"
        "  - name: Nope\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    assert [(each.place.line, each.place.column) for each in caught.value.mistakes] == [
        (3, 16), (7, 13), (11, 5), (12, 7), (15, 11), (16, 11)
    ]  # fmt: skip


def test_adapter_class_of_an_entry_that_was_never_checked() -> None:
    with pytest.raises(ConfigurationError, match="storage 'A': there is no adapter 'Nope'") as caught:
        adapter_class(StorageEntry("A", "Nope"))
    assert len(caught.value.mistakes) == 1


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("port", 7, 7),
        ("port", "7", 7),
        ("tls", True, True),
        ("tls", "false", False),
        ("tls", "False", False),
        ("ratio", "0.5", 0.5),
        ("ratio", 1, 1.0),
        ("maybe", None, None),
        ("maybe", "5", 5),
        ("either", "5", "5"),
        ("either", 5, 5),
        ("level", "high", "high"),
        ("hosts", ["a", "b"], ["a", "b"]),
        ("options", {"a": "1"}, {"a": 1}),
        ("few", 3, 3),
        ("loose", {"file": "x"}, {"file": "x"}),
        ("anything", [1, {"a": 2}], [1, {"a": 2}]),
        ("odd", "x", "x"),
    ],
)
def test_arguments_are_converted_by_the_annotations(modules: Path, name: str, given: Any, expected: Any) -> None:
    for classname in ("Typed", "Inherited"):
        value = loaded(classname, {"host": "h", name: given}).configuration[name]
        assert (value, type(value)) == (expected, type(expected))


def test_richer_annotations(modules: Path) -> None:
    given = {"host": "h", "mode": "safe", "pool": {"size": "3"}, "wait": 90, "folder": "/x", "key": "k"}
    arguments = loaded("Typed", given).configuration
    assert arguments["mode"].value == "safe"
    assert (arguments["pool"].size, arguments["pool"].name) == (3, "x")
    assert arguments["wait"].total_seconds() == 90
    assert arguments["folder"] == Path("/x")
    assert arguments["key"].get_secret_value() == "k"


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, "configuration: Typed needs the argument 'host'"),
        (None, "configuration: Typed needs the argument 'host'"),
        ({"host": "h", "prot": 1}, "configuration.prot: Typed has no argument 'prot'"),
        ({"host": 5}, "configuration.host: should be a valid string"),
        ({"host": "h", "port": "x"}, "configuration.port: should be a valid integer, unable to parse string"),
        ({"host": "h", "port": True}, "configuration.port: should be a number, not true or false"),
        ({"host": "h", "tls": 1}, "configuration.tls: should be true or false, not a number"),
        ({"host": "h", "maybe": "x"}, "configuration.maybe: should be a valid integer"),
        ({"host": "h", "either": []}, "configuration.either: should be a valid integer, or should be a valid string"),
        ({"host": "h", "mode": "slow"}, "configuration.mode: should be 'fast' or 'safe'"),
        ({"host": "h", "level": "x"}, "configuration.level: should be 'low' or 'high'"),
        ({"host": "h", "hosts": ["a", 1]}, "configuration.hosts.1: should be a valid string"),
        ({"host": "h", "options": {"a": "b"}}, "configuration.options.a: should be a valid integer"),
        ({"host": "h", "pool": {}}, "configuration.pool: Field required"),
        ({"host": "h", "few": 9}, "configuration.few: should be less than or equal to 3"),
        ({"host": "h", "password": 12345}, "configuration.password: should be str | None"),
    ],
)
def test_wrong_arguments(modules: Path, configuration: Any, message: str) -> None:
    (found,) = refused("Typed", configuration)
    assert found.startswith(message)


def test_arguments_without_annotations_are_passed_as_given(modules: Path) -> None:
    given = {"host": ["a"], "port": "x"}
    assert loaded("Untyped", given).configuration == given
    assert refused("Untyped", {}) == ["configuration: Untyped needs the arguments 'host', 'port'"]


def test_an_open_constructor_takes_any_name_and_still_checks_its_own(modules: Path) -> None:
    assert loaded("Open", {"port": "5", "what": "ever"}).configuration == {"port": 5, "what": "ever"}
    assert refused("Open", {"port": "x", "what": 1})[0].startswith("configuration.port: ")


def test_constructors_of_other_kinds(modules: Path) -> None:
    assert loaded("Data", {"host": "h", "port": "5"}).configuration == {"host": "h", "port": 5}
    assert loaded("Nothing").configuration == {}
    assert refused("Nothing", {"x": 1}) == ["configuration.x: Nothing has no argument 'x'"]


def test_unquoted_variables_are_what_the_argument_wants(tmp_path: Path, modules: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        "storages:\n  - name: S\n    classname: Typed\n    import: adapters_of_test\n    configuration:\n"
        + "".join(f"      {name}: ${{V}}\n" for name in ("host", "port", "either", "loose", "token", "password"))
    )
    arguments = load(file, environ={"V": "0123"}).storages["S"].configuration
    assert arguments == {
        "host": "0123", "port": 83, "either": 83, "loose": 83, "token": "0123", "password": "0123"
    }  # fmt: skip


def test_files_for_secrets_go_where_text_goes(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("pw\n")
    file = {"file": str(tmp_path / "s")}
    given = {"host": file, "password": file, "key": file, "token": file, "loose": file, "anything": {"password": file}}
    arguments = loaded("Typed", given).configuration
    assert (arguments["host"], arguments["password"], arguments["token"]) == ("pw", "pw", "pw")
    assert arguments["key"].get_secret_value() == "pw"
    assert arguments["loose"] == file
    assert arguments["anything"] == {"password": "pw"}
    assert refused("Typed", {"host": "h", "port": file})[0].startswith("configuration.port: should be a valid integer")


def test_arguments_that_cannot_be_expanded_are_reported_once(modules: Path) -> None:
    assert refused("Typed", {"host": "{UNSET}"}) == [
        "configuration.host: storage 'S': the variable UNSET is not set"
    ]  # fmt: skip


def test_quotes_and_blanks_in_values_arrive_as_they_are(modules: Path) -> None:
    value = """ it's "quoted" \\ \n\t%s """
    assert loaded("Typed", {"host": value}).configuration["host"] == value


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
        ("adapters_of_test:Foreign", "'Published' is no adapter"),
        ("no_such_module:X", "the published adapter 'Published' can't be loaded: ModuleNotFoundError"),
    ],
)
def test_a_published_adapter_is_checked_too(modules: Path, value: str, message: str) -> None:
    publish(modules, value)
    assert refused("Published", module="flowstore.storages")[0].startswith(f"classname: {message}")


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_costs_neither_yaml_nor_pydantic() -> None:
    code = "import sys, flowstore, flowstore.loading, flowstore.config; print({'yaml', 'pydantic'} & set(sys.modules))"
    assert in_a_new_process(code) == "set()"


def test_loading_imports_no_driver_and_opens_nothing(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    code = (
        "import sys; from flowstore.loading import load\n"
        f"load({{'storages': [{{'name': 'MemoryStorage'}}, {{'name': 'S', 'classname': 'SqlStorage', "
        f"'configuration': {{'connection_string': 'sqlite:///{database}'}}}}]}})\n"
        "print({'sqlalchemy', 'sqlite3', 'celery', 'jsonschema'} & set(sys.modules))"
    )
    assert in_a_new_process(code) == "set()"
    assert not database.exists()


def test_reading_alone_imports_no_adapter() -> None:
    code = (
        "import sys; from flowstore.config import read\n"
        "print(read({'storages': [{'name': 'S', 'classname': 'SqlStorage'}]})[1])\n"
        "print([name for name in sys.modules if name.startswith('flowstore.storage')])"
    )
    assert in_a_new_process(code) == "[]\n[]"


def test_a_loaded_configuration_is_plain_data() -> None:
    configuration = load({"storages": [{"name": "MemoryStorage"}]}, environ={})
    assert isinstance(configuration, Configuration)
    with pytest.raises(AttributeError):
        configuration.default_storage = "x"  # type: ignore[misc]
