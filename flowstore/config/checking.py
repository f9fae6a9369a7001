"""The checks of a configuration's entries, and of what they say about each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flowstore.config import coding, selinon
from flowstore.config.document import Document
from flowstore.config.mistakes import Mistake, closest, did_you_mean, is_misspelt
from flowstore.config.model import CacheEntry, Configuration, FlowEntry, StorageEntry, TaskEntry
from flowstore.config.nodes import Fields, Items, Path, children, dotted, to_data
from flowstore.config.overrides import named
from flowstore.config.patience import read_store_error
from flowstore.config.schemas import UnusableSchemaError, read_schema
from flowstore.config.secrets import plain_secrets
from flowstore.config.shape import (
    VERSION,
    CacheShape,
    FlowShape,
    GlobalShape,
    InlineShape,
    Shape,
    StorageShape,
    TaskShape,
    TopShape,
    explain,
    known_keys,
)

AnyShape = TypeVar("AnyShape", bound=Shape)


def check(document: Document) -> None:
    """Check a document's tree; set its ``configuration`` and report its mistakes."""
    _Check(document).run()


def check_inline(document: Document, path: Path) -> StorageEntry | None:
    """Check a storage inside of another one's configuration; report its mistakes."""
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
        self._declared: set[str] = set()
        self._selinons: dict[tuple[str, str], list[Path]] = {}
        self._guessed: set[Path] = set()

    def run(self) -> None:
        document = self._document
        top = self.shaped(TopShape, ())
        if top is not None and top.version != VERSION:
            document.report(("version",), f"unknown version {top.version}", f"This release reads version {VERSION}.")
        for path in self._entries("storages"):
            self._storage(path)
        for path in self._entries("tasks"):
            self._task(path)
        for path in self._entries("flows"):
            self._flow(path)
        default = self._default()
        self._look_for_ambiguous_names(default)
        self._report_selinons()
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
        """Return what is at a path in that shape, without the keys whose values are wrong, which are reported.

        A misspelt key counts as the one that was meant, and an entry without a name has its path for one, so that
        one mistake neither hides another nor causes one.
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
                self._selinons.setdefault((section, key), []).append((*path, key))
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
            return  # it may be right for the key that was written
        message, hint = explain(error, shape)
        if error["type"] == "missing":
            self._document.report(path, message, hint)
        else:
            of_key = error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",)
            self._document.report((*path, *error["loc"]), message, hint, of_key=of_key)

    def _storage(self, path: Path) -> None:
        shape = self.shaped(StorageShape, path)
        if shape is None:
            return
        policy, patience = read_store_error(self._document, (*path, "on_store_error"), self.shaped)
        entry = StorageEntry(
            name=shape.name,
            classname=shape.classname or shape.name,
            module=shape.module,
            configuration=shape.configuration or {},
            on_store_error=policy,
            patience=patience,
            on_conflict=shape.on_conflict,
            history=shape.history,
            cache=self._cache((*path, "cache")),
            expires=shape.expires,
            allow_clear=shape.allow_clear,
            max_result_size=shape.max_result_size,
            blob_threshold=shape.blob_threshold,
            serializer=shape.serializer,
            strict=shape.strict,
            decode_limit=shape.decode_limit,
            compression=coding.read_compression(self._document, (*path, "compression"), self.shaped),
            encryption=coding.read_encryption(self._document, (*path, "encryption"), self.shaped),
            place=self._document.place(path),
        )
        coding.check_package(self._document, (*path, "serializer"), entry.serializer)
        self._document.storages.append((path, entry))
        self._storages.setdefault(entry.name, entry)

    def _cache(self, path: Path) -> CacheEntry | None:
        node = self._document.node(path)
        if node is None or to_data(node) is None:
            return None
        if isinstance(node, Fields) and "classname" not in node.entries and "import" in node.entries:
            self._document.report(path, "a cache in the form of Selinon's", selinon.CACHE)
            self._document.looks_like_selinons = True
            return None
        shape = self.shaped(CacheShape, path)
        if shape is None:
            return None
        if shape.classname == "TTL" and shape.ttl is None:
            self._document.report(path, "a TTL cache needs a 'ttl', in seconds")
        if shape.classname != "TTL" and shape.ttl is not None:
            self._document.report((*path, "ttl"), "only a TTL cache has a 'ttl'", of_key=True)
        return CacheEntry(shape.classname, shape.size, shape.ttl)

    def _task(self, path: Path) -> None:
        shape = self.shaped(TaskShape, path)
        if shape is None:
            return
        self._check_reference((*path, "storage"), shape.storage)
        schema = None
        if shape.output_schema is not None:
            try:
                schema = read_schema(self._document.base / shape.output_schema)
            except UnusableSchemaError as exc:
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
        self._check_reference((*path, "storage"), shape.storage)
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
        self._check_reference(("global", "default_storage"), shape.default_storage)
        return shape.default_storage

    def _check_reference(self, path: Path, storage: str | None) -> None:
        names = [name for name, _ in named(self._document.node(("storages",)))]
        if storage is not None and storage not in names and path not in self._guessed:
            self._document.report(path, f"unknown storage {storage!r}", did_you_mean(storage, names))

    def _look_for_ambiguous_names(self, default: str | None) -> None:
        """Refuse that one stored name is in two storages: reading by that name could not tell which is meant."""
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

    def _report_selinons(self) -> None:
        """Report the keys of Selinon's, each once however many entries have it."""
        for (section, key), paths in self._selinons.items():
            more = f" ({len(paths)} {section} have it)" if len(paths) > 1 else ""
            hint = selinon.KEYS[section][key]
            self._document.report(paths[0], f"a key of Selinon's, unknown here{more}", hint, of_key=True)
            self._document.looks_like_selinons = True

    def _warnings(self) -> Iterator[Mistake]:
        document = self._document
        for place in ((*path, key) for path in self._entries("storages") for key in ("configuration", "encryption")):
            node = document.node(place)
            for path in plain_secrets(node, place) if node is not None else ():
                hint = f"Use a variable, or a file: {path[-1]}: {{file: /run/secrets/...}}."
                yield document.shown(Mistake(document.place(path), dotted(path), "a secret in plain text", hint))
