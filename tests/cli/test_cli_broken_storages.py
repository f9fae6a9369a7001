"""One storage that can't work hides no other, and ``check`` says what can be known without connecting."""

from __future__ import annotations

import json

import pytest

from flowstore import FlowStore
from tests.cli.helpers import Place
from tests.cli.test_cli_plugin import celery

ADAPTERS = """
from flowstore import ConfigurationError, UnreachableError
from flowstore.storages import MemoryStorage

class Lacking(MemoryStorage):
    requires = ("no_such_driver_anywhere",)
    extra = "nowhere"

class ByArgument(MemoryStorage):
    def __init__(self, driver: str):
        super().__init__()

    @classmethod
    def drivers_for(cls, arguments):
        yield arguments["driver"], "toy"

    @classmethod
    def mistakes_in(cls, arguments):
        if arguments["driver"] == "oracle":
            yield ("driver",), "oracle is not supported"
        if arguments["driver"] == "bug":
            raise KeyError("no such driver")
        if arguments["driver"] == "refused":
            raise ConfigurationError("driver: is refused")

class Raw(MemoryStorage):
    error = ValueError("invalid connection option 'nonsense'")
    def connect(self):
        raise self.error

class Away(Raw):
    error = UnreachableError("nobody is listening")

class Buggy(MemoryStorage):
    def _get(self, ref, payload):
        raise AttributeError("no such attribute")
    def _count(self, query):
        raise AttributeError("no such attribute")

class WithoutSelf(MemoryStorage):
    def connect():
        pass
"""

BROKEN = ("Lacking", "Raw", "Away", "Buggy", "WithoutSelf")


@pytest.fixture
def adapters(place: Place) -> Place:
    (place.path / "adapters.py").write_text(ADAPTERS)
    return place


def declare(place: Place, *entries: str, more: str = "") -> None:
    good = "  - {name: Good, classname: SqlStorage, configuration: {connection_string: 'sqlite:///good.db'}}\n"
    text = "storages:\n" + "".join(f"  - {{{entry}, import: adapters}}\n" for entry in entries) + good + more
    (place.path / "flowstore.yaml").write_text(text)


@pytest.mark.parametrize(
    ("command", "broken"),
    [
        (command, broken)
        for command in ("ping", "stats", "check --connect")
        for broken in (*BROKEN, "missing")
        if (command, broken) != ("check --connect", "Buggy")  # which can be connected
    ],
)
def test_one_storage_that_cannot_work_hides_no_other(command: str, broken: str, adapters: Place) -> None:
    if broken == "missing":
        declare(adapters, "name: Bad, classname: ByArgument, configuration: {driver: no_such_driver}")
    else:
        declare(adapters, f"name: Bad, classname: {broken}")
    arguments = {"connection_string": f"sqlite:///{adapters.path}/good.db"}
    entry = {"name": "Good", "classname": "SqlStorage", "configuration": arguments}
    good = FlowStore({"storages": [entry], "global": {"default_storage": "Good"}})
    good.store("f", "t", "1", 1)
    good.close()
    ended = adapters.run(*command.split(), "-o", "json")
    assert ended.returncode == 6, ended.stderr
    rows = {row["storage"]: row for row in json.loads(ended.stdout)}
    assert rows["Good"].get("answers", rows["Good"].get("connected", rows["Good"].get("records")))
    assert "Bad" not in rows or not rows["Bad"].get("answers", rows["Bad"].get("connected"))
    assert ended.stderr.count("error: ") == 1
    assert "Bad" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_driver_that_is_not_installed_is_a_mistake_for_everything_else(adapters: Place) -> None:
    nix = "name: Worse, classname: ByArgument, configuration: {driver: nix}"
    declare(adapters, "name: Bad, classname: Lacking", nix)
    for command in (("check",), ("ls",)):
        ended = adapters.run(*command)
        assert ended.returncode == 3
        for name, module, extra in (("Lacking", "no_such_driver_anywhere", "nowhere"), ("ByArgument", "nix", "toy")):
            told = f"{name!r} needs {module}, which is not installed. Run: pip install 'flowstore[{extra}]'"
            assert told in ended.stderr


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("oracle", "configuration.driver: oracle is not supported"),
        ("bug", "ByArgument.mistakes_in() failed: KeyError: 'no such driver'"),
        ("refused", "driver: is refused"),
    ],
)
def test_check_asks_the_adapter_without_connecting(driver: str, told: str, adapters: Place) -> None:
    declare(adapters, f"name: Bad, classname: ByArgument, configuration: {{driver: {driver}}}")
    ended = adapters.run("check")
    assert ended.returncode == 3
    assert told in ended.stderr


def test_the_command_line_tries_once(adapters: Place) -> None:
    entry = "name: Bad, classname: Away, on_store_error: {retry: 10m}"
    declare(adapters, entry, more="global: {default_storage: Bad}\n")
    ended = adapters.run("tree", "some-run")
    assert ended.returncode == 5
    assert "nobody is listening" in ended.stderr
    assert "trying again" not in ended.stderr


def test_check_knows_the_tasks_of_the_app(place: Place) -> None:
    (place.path / "shop.py").write_text(
        "from celery import Celery\nfrom flowstore import FlowStore\n"
        "app = Celery('shop', broker='memory://', include=['more'])\nFlowStore('flowstore.yaml', app=app)\n"
        "@app.task(name='shop.exports')\ndef export(): ...\n"
    )
    (place.path / "more.py").write_text("from shop import app\n@app.task(name='more.work')\ndef work(): ...\n")
    text = (place.path / "flowstore.yaml").read_text()
    text = text.replace("tasks:\n", "tasks:\n  - name: more.work\n    storage: Files\n")
    (place.path / "flowstore.yaml").write_text(text)
    ended = celery(place, "check")
    assert ended.returncode == 0, ended.stderr
    assert "the app has no task 'shop.export'. Did you mean 'shop.exports'?" in ended.stderr
    assert "flowstore.yaml:" in ended.stderr
    assert "'more.work'" not in ended.stderr
    assert "the app has" not in place.run("check").stderr
