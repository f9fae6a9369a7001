"""What loading answers with: every mistake at its place, or plain data; and what it does not import."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flowstore import ConfigurationError
from flowstore.config import Configuration
from flowstore.config.loading import load


def test_only_a_record_storage_can_keep_or_refuse(modules: Path) -> None:
    plain = {"name": "P", "classname": "Nothing", "import": "adapters_of_test", "on_conflict": "keep"}
    with pytest.raises(ConfigurationError, match="'Nothing' can only replace what is stored") as caught:
        load({"storages": [plain, {"name": "MemoryStorage", "on_conflict": "keep"}]}, environ={})
    assert [mistake.path for mistake in caught.value.mistakes] == ["storages.0.on_conflict"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serializer", "json"),
        ("strict", True),
        ("decode_limit", 5),
        ("compression", "gzip"),
        ("encryption", {"keys": {"one": {"file": "key"}}, "active": "one"}),
        ("expires", "7d"),
        ("allow_clear", False),
        ("max_result_size", 5),
        ("blob_threshold", 5),
    ],
)
def test_only_a_record_storage_supports(modules: Path, key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(base64.b64encode(bytes(32)).decode(), encoding="ascii")
    file = tmp_path / "flowstore.yaml"
    entry = {"name": "P", "classname": "Nothing", "import": "adapters_of_test", key: value}
    file.write_text(yaml.safe_dump({"storages": [entry]}))
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    (mistake,) = caught.value.mistakes
    assert mistake.path == f"storages.0.{key}"
    assert mistake.message == "'Nothing' does not support this key: it is not a RecordStorage"


def test_only_a_record_storage_can_keep_a_history(modules: Path) -> None:
    plain = {"name": "P", "classname": "Nothing", "import": "adapters_of_test"}
    storages = [{**plain, "history": "errors"}, {"name": "MemoryStorage", "history": "all"}]
    flows = [
        {"name": "in P", "storage": "P", "history": "all"},
        {"name": "in P, none", "storage": "P", "history": "none"},
        {"name": "by default", "history": "errors"},
        {"name": "fine", "storage": "MemoryStorage", "history": "errors"},
    ]
    with pytest.raises(ConfigurationError, match="'Nothing' can't keep a history") as caught:
        load({"storages": storages, "flows": flows, "global": {"default_storage": "P"}}, environ={})
    found = [mistake.path for mistake in caught.value.mistakes]
    assert found == ["storages.0.history", "flows.0.history", "flows.2.history"]


def test_a_history_needs_a_storage() -> None:
    with pytest.raises(ConfigurationError, match="flow 'f' has no storage to keep its history in") as caught:
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
    assert message.startswith(f"3 mistakes in {file}:\n{file}:2:11: storages.0.name: unknown adapter 'Nope'.")
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


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_costs_neither_yaml_nor_pydantic() -> None:
    code = "import sys, flowstore, flowstore.config.loading; print({'yaml', 'pydantic'} & set(sys.modules))"
    assert in_a_new_process(code) == "set()"


def test_loading_imports_no_driver_and_opens_nothing(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    code = (
        "import sys; from flowstore.config.loading import load\n"
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
