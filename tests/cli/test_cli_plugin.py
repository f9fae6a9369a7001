"""The same commands under ``celery -A app flowstore``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowstore import FlowStore
from tests.cli.helpers import Place

APP = """
from celery import Celery
from flowstore import FlowStore

app = Celery("shop", broker="memory://")
"""


def celery(place: Place, *arguments: str, app: str = "shop") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "flowstore", *arguments],
        cwd=place.path,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def shop(place: Place, store: FlowStore) -> Place:
    """An app with a store from a file that isn't the default one, and an app without."""
    (place.path / "flowstore.yaml").rename(place.path / "other.yaml")
    (place.path / "shop.py").write_text(APP + "FlowStore('other.yaml', app=app)\n")
    (place.path / "bare.py").write_text(APP)
    store._begin_run("checkout", "run-1")
    store.close()
    return place


def test_uses_the_store_of_the_app(shop: Place) -> None:
    ended = celery(shop, "ls", "-o", "name")
    assert (ended.returncode, ended.stdout) == (0, "checkout\n"), ended.stderr


def test_another_configuration_can_be_named(shop: Place) -> None:
    shop.fine("init", "third.yaml")
    ended = celery(shop, "-c", "third.yaml", "ls")
    assert ended.returncode == 0
    assert "no runs are stored" in ended.stderr


def test_an_app_without_a_store_falls_back(shop: Place) -> None:
    ended = celery(shop, "ls", app="bare")
    assert ended.returncode == 3
    assert "no configuration" in ended.stderr
    assert celery(shop, "-c", "other.yaml", "ls", app="bare").returncode == 0


def test_the_store_of_the_app_cannot_be_changed(shop: Place) -> None:
    ended = celery(shop, "--set", "global.default_storage=Files", "ls")
    assert ended.returncode == 2
    assert "--set needs --config" in ended.stderr


def test_exit_codes_are_the_same(shop: Place) -> None:
    ended = celery(shop, "tree", "no-such-run")
    assert ended.returncode == 4
    assert ended.stderr.startswith("error: ")


def test_an_option_in_the_wrong_place_is_told_by_celery(shop: Place) -> None:
    ended = celery(shop, "ls", "-A", "shop")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_loading_the_commands_loads_nothing_but_click() -> None:
    show = "import sys, flowstore.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in loaded
    assert not {"celery", "kombu", "sqlalchemy", "pydantic", "rich", "yaml", "orjson", "jsonschema"} & set(loaded)
    own = "import sys, flowstore.cli; print(*(n for n in sys.modules if n.startswith('flowstore') and '.cli' not in n))"
    printed = subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["flowstore"]


def test_the_group_is_named_as_the_command() -> None:
    from flowstore.cli import flowstore, main

    assert flowstore.name == "flowstore"
    assert main is flowstore
    assert Path(sys.executable).with_name("flowstore").exists()
