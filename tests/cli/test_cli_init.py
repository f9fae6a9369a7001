from __future__ import annotations

import json
import os

import jsonschema
import pytest
import yaml

from flowstore import FlowStore
from tests.cli.helpers import Place


def test_writes_a_configuration_that_loads_as_it_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.fine("init", "own.yaml") == "own.yaml\nown.schema.json\n"
    text = (place.path / "own.yaml").read_text()
    schema = json.loads((place.path / "own.schema.json").read_text())
    assert text.splitlines()[0] == "# yaml-language-server: $schema=own.schema.json"
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(text))
    assert "Results" in place.fine("-c", "own.yaml", "check", "--connect")
    monkeypatch.chdir(place.path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    store = FlowStore("own.yaml")
    store.store("f", "t", "1", [1])
    assert store.retrieve("f", "t", "1") == [1]
    store.close()
    assert os.path.exists("flowstore.db")


def test_what_is_commented_out_is_right_too(place: Place) -> None:
    place.fine("init", "own.yaml")
    lines = (place.path / "own.yaml").read_text().splitlines()
    code = ("# tasks:", "#   - name", "#     ", "# flows:", "  # - name", "  #   ")
    shown = [line.replace("# ", "", 1) if line.startswith(code) else line for line in lines]
    (place.path / "full.yaml").write_text("\n".join(shown))
    rows = json.loads(place.fine("-c", "full.yaml", "check", "-o", "json"))
    assert [(row["storage"], row["tasks"], row["flows"]) for row in rows] == [("Results", 0, 0), ("Files", 1, 1)]


def test_never_overwrites_unless_forced(place: Place) -> None:
    before = (place.path / "flowstore.yaml").read_text()
    ended = place.run("init")
    assert ended.returncode == 1
    assert "flowstore.yaml exists; pass --force" in ended.stderr
    assert (place.path / "flowstore.yaml").read_text() == before
    assert not (place.path / "flowstore.schema.json").exists()
    (place.path / "own.schema.json").write_text("mine")
    assert place.run("init", "own.yaml").returncode == 1
    assert not (place.path / "own.yaml").exists()
    place.fine("init", "--force")
    assert (place.path / "flowstore.yaml").read_text() != before


def test_check_prints_the_schema_without_a_configuration(place: Place) -> None:
    (place.path / "flowstore.yaml").unlink()
    schema = json.loads(place.fine("check", "--json-schema"))
    jsonschema.Draft7Validator.check_schema(schema)
    assert "SqlStorage" in json.dumps(schema)
