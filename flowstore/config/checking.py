"""From the tree to a checked configuration: entries and references."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flowstore.config import selinon
from flowstore.config.document import Document, Fields, Items, Path, children, dotted, to_data
from flowstore.config.mistakes import Mistake, closest, did_you_mean, is_misspelt
from flowstore.config.model import Configuration, FlowEntry, StorageEntry, TaskEntry
from flowstore.config.overrides import named_sections
from flowstore.config.secrets import plain_secrets
from flowstore.config.shapes import (
    CONFIGURATION_VERSION,
    AnyShape,
    FlowShape,
    GlobalShape,
    InlineShape,
    Shape,
    TaskShape,
    TopShape,
    explain,
    known_keys,
)
from flowstore.config.storages import read_storage


def check(document: Document) -> None:
    """Check the tree of a document: set ``configuration``, report mistakes."""
    _Check(document).run()


def check_inline(document: Document, path: Path) -> StorageEntry | None:
    """Check a storage that is declared inside another one's configuration."""
    shape = _Check(document).shaped(InlineShape, path)
    if shape is None:
        return None
    return StorageEntry(
        name=dotted(path),
        classname=shape.classname,
        module=shape.module,
        configuration=shape.configuration or {},
        place=document.place(path),
    )


class _Check:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._storages: dict[str, StorageEntry] = {}
        self._tasks: dict[str, TaskEntry] = {}
        self._flows: dict[str, FlowEntry] = {}
        self._selinon_keys: dict[tuple[str, str], list[Path]] = {}
        self._guessed: set[Path] = set()

    def run(self) -> None:
        document = self._document
        top = self.shaped(TopShape, ())
        if top is not None and top.version != CONFIGURATION_VERSION:
            document.report(
                ("version",), f"unknown version {top.version}", f"This release reads version {CONFIGURATION_VERSION}."
            )
        for path in self._entries("storages"):
            self._storage(path)
        for path in self._entries("tasks"):
            self._task(path)
        for path in self._entries("flows"):
            self._flow(path)
        default = self._default()
        self._check_stored_names(default)
        self._report_selinon_keys()
        document.configuration = Configuration(
            storages=self._storages,
            tasks=self._tasks,
            flows=self._flows,
            default_storage=default,
            source=document.name,
            warnings=tuple(self._warnings()),
        )

    def _entries(self, section: str) -> list[Path]:
        node = self._document.node((section,))
        return [(section, index) for index, _ in children(node)] if isinstance(node, Items) else []

    def shaped(self, shape: type[AnyShape], path: Path) -> AnyShape | None:
        """Return what is at a path in a shape, without what is wrong in it.

        All mistakes are reported. If nothing usable is left, the result is None.

        One mistake should neither hide another one nor cause one: a misspelt key counts as the one that was meant, and
        an entry without a name gets its path as its name.
        """
        node = self._document.node(path)
        assert node is not None
        data = to_data(node)
        reported: set[Any] = set()
        for key in [key for key, _ in children(node) if isinstance(node, Fields) and not isinstance(key, str)]:
            self._document.report((*path, key), "a key must be a string", "Quote it.", of_key=True)
            del data[key]
        section = str(path[0]) if path else ""
        for key in selinon.KEYS.get(section, {}) if isinstance(node, Fields) and len(path) < 3 else ():
            if key in data:
                self._selinon_keys.setdefault((section, key), []).append((*path, key))
                del data[key]
        while True:
            try:
                return shape.model_validate(data)
            except ValidationError as exc:
                errors = exc.errors()
            wrong = {error["loc"][0]: error["type"] for error in errors if error["loc"]}
            meant = {
                key: closest(str(key), set(known_keys(shape)) - set(data))
                for key, kind in wrong.items()
                if kind == "extra_forbidden"
            }
            reported |= {each for each in meant.values() if each is not None}
            for error in errors:
                if error["type"] != "missing" or error["loc"][0] not in reported:
                    self._report(shape, path, error)
            if not isinstance(node, Fields):
                return None
            reported |= set(wrong)
            for key in wrong:
                value = data.pop(key, None)
                right = meant.get(key)
                if right is not None:
                    node.rename(str(key), right)
                    if not is_misspelt(str(key), right):
                        self._guessed.add((*path, right))
                    data[right] = value
            if "name" in shape.model_fields and "name" in wrong and "name" not in data:
                data["name"] = dotted(path)
            elif "missing" in wrong.values() and not any(meant.values()):
                return None

    def _report(self, shape: type[Shape], path: Path, error: ErrorDetails) -> None:
        if error["loc"] and (*path, error["loc"][0]) in self._guessed:
            return  # the value may be right for the key that was written
        message, hint = explain(error, shape)
        if error["type"] == "missing":
            self._document.report(path, message, hint)
        else:
            of_key = error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",)
            self._document.report((*path, *error["loc"]), message, hint, of_key=of_key)

    def _storage(self, path: Path) -> None:
        entry = read_storage(self._document, path, self.shaped)
        if entry is not None:
            self._document.storages.append((path, entry))
            self._storages.setdefault(entry.name, entry)

    def _task(self, path: Path) -> None:
        shape = self.shaped(TaskShape, path)
        if shape is None:
            return
        self._check_storage_name((*path, "storage"), shape.storage)
        schema = None
        if shape.output_schema is not None:
            try:
                schema = _read_schema(self._document.base / shape.output_schema)
            except _UnusableSchemaError as exc:
                self._document.report((*path, "output_schema"), str(exc))
        entry = TaskEntry(
            name=shape.name,
            storage=shape.storage,
            has_storage_key="storage" in shape.model_fields_set,
            storage_readonly=shape.storage_readonly,
            storage_task_name=shape.storage_task_name,
            output_schema=schema,
            expires=shape.expires,
            has_expires_key="expires" in shape.model_fields_set,
            place=self._document.place(path),
        )
        self._document.tasks.append((path, entry))
        self._tasks.setdefault(shape.name, entry)

    def _flow(self, path: Path) -> None:
        shape = self.shaped(FlowShape, path)
        if shape is None:
            return
        self._check_storage_name((*path, "storage"), shape.storage)
        entry = FlowEntry(
            name=shape.name,
            storage=shape.storage,
            history=shape.history,
            expires=shape.expires,
            has_expires_key="expires" in shape.model_fields_set,
            place=self._document.place(path),
        )
        self._document.flows.append((path, entry))
        self._flows.setdefault(shape.name, entry)

    def _default(self) -> str | None:
        node = self._document.node(("global",))
        if node is None or to_data(node) is None:
            return None
        shape = self.shaped(GlobalShape, ("global",))
        if shape is None:
            return None
        self._check_storage_name(("global", "default_storage"), shape.default_storage)
        return shape.default_storage

    def _check_storage_name(self, path: Path, storage: str | None) -> None:
        names = [name for name, _ in named_sections(self._document.node(("storages",)))]
        if storage is not None and storage not in names and path not in self._guessed:
            self._document.report(path, f"unknown storage {storage!r}", did_you_mean(storage, names))

    def _check_stored_names(self, default: str | None) -> None:
        """Report stored names in two storages: reading would be ambiguous."""
        first: dict[str, TaskEntry] = {}
        for path in self._entries("tasks"):
            node = self._document.node((*path, "name"))
            name = None if node is None else to_data(node)
            task = self._tasks.get(name) if isinstance(name, str) else None
            if task is None:
                continue
            stored_as = task.storage_task_name or task.name
            other = first.setdefault(stored_as, task)
            storages = [each.storage if each.has_storage_key else default for each in (other, task)]
            if None not in storages and storages[0] != storages[1]:
                message = (
                    f"{task.name!r} and {other.name!r} are both stored as {stored_as!r}, "
                    f"but in {storages[1]!r} and {storages[0]!r}"
                )
                self._document.report((*path, "storage_task_name"), message, "Give them one storage or two names.")

    def _report_selinon_keys(self) -> None:
        """Report each key of Selinon once, however many entries have it."""
        for (section, key), paths in self._selinon_keys.items():
            more = f" ({len(paths)} {section} have it)" if len(paths) > 1 else ""
            hint = selinon.KEYS[section][key]
            self._document.report(paths[0], f"a key of Selinon, unknown here{more}", hint, of_key=True)
            self._document.looks_like_selinon = True

    def _warnings(self) -> Iterator[Mistake]:
        document = self._document
        for place in ((*path, key) for path in self._entries("storages") for key in ("configuration", "encryption")):
            node = document.node(place)
            for path in plain_secrets(node, place) if node is not None else ():
                hint = f"Use a variable, or a file: {path[-1]}: {{file: /run/secrets/...}}."
                yield document.shown(Mistake(document.place(path), dotted(path), "a secret in plain text", hint))


class _UnusableSchemaError(Exception):
    """A file that holds no usable JSON Schema; the message says why."""


def _read_schema(path: FilePath) -> dict[str, Any]:
    """Return the JSON Schema that a task names for its results.

    Raises:
        _UnusableSchemaError: the file can't be read, is not JSON, or is not a valid JSON Schema.
    """
    try:
        schema = json.loads(path.read_bytes())
    except OSError as exc:
        raise _UnusableSchemaError(f"can't read {path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise _UnusableSchemaError(f"{path} is not valid JSON: {exc}") from exc
    if not isinstance(schema, dict):
        raise _UnusableSchemaError(f"{path} is not a JSON Schema: it must be an object")
    # Slow to import, and few configurations name a schema.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as exc:
        raise _UnusableSchemaError(f"{path} is not a valid JSON Schema: at {exc.json_path}: {exc.message}") from exc
    return schema
