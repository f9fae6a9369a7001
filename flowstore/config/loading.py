"""From a configuration's source to a configuration that can be used: its adapters exist and take their arguments.

Adapters' classes are imported here; nothing is constructed, nothing connects.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from flowstore.config import selinon
from flowstore.config.mistakes import Mistake, did_you_mean
from flowstore.config.model import OWN_MODULE, Configuration, FlowEntry, StorageEntry
from flowstore.config.nesting import check_children, check_references, refuse_plain, with_children
from flowstore.errors import ConfigurationError
from flowstore.interrupts import is_interrupt
from flowstore.storage import DataStorage, RecordStorage
from flowstore.storage.exclusion import let_in_one_at_a_time

if TYPE_CHECKING:
    from flowstore.config.document import Document
    from flowstore.config.nodes import Path

ENTRY_POINTS: Final = "flowstore.storages"
"""The entry point group by which a package publishes adapters that need no ``import``."""


class _RefusedError(Exception):
    """A class that can't be an adapter: at which key of the entry, why, and what to do."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.message = message
        self.hint = hint


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    keep_lacking: bool = False,
) -> Configuration:
    """Read a configuration and check it whole, adapters and their arguments included.

    Args:
        source: the path of a YAML file, a mapping of the same form, or ``None`` for the file that the variable
            ``FLOWSTORE_CONFIG`` names.
        environ: the variables to use instead of the process's.
        overrides: values by dotted key (``storages.HOT.host``), which win over environment, profile and file.
        keep_lacking: whether a storage whose driver is not installed here is no mistake before it is used.

    Returns:
        The configuration; the arguments of each adapter are converted by its constructor's annotations.

    Raises:
        ConfigurationError: something is wrong; the message shows every mistake, ``mistakes`` holds them.
    """
    from flowstore.config.reading import read_document

    document = read_document(source, environ=environ, overrides=overrides)
    document.keeps_lacking = keep_lacking
    storages = {entry.name: _checked(document, path, entry) for path, entry in document.storages}
    for path, flow in document.flows:
        _check_history(document, path, flow, storages)
        if flow.expires is not None:
            _check_expiry(document, path, flow.storage, storages)
    for path, task in document.tasks:
        if task.expires is not None and not (task.has_storage_key and task.storage is None):
            _check_expiry(document, path, task.storage, storages)
    check_references(document, storages)
    mistakes = document.mistakes()
    if mistakes:
        hint = selinon.HINT if document.looks_like_selinons else ""
        raise ConfigurationError(_report(mistakes, document.name, hint), mistakes)
    return dataclasses.replace(document.configuration, storages=storages)


def adapter_class(entry: StorageEntry) -> type[DataStorage]:
    """Return the class of a storage entry, imported.

    Raises:
        ConfigurationError: there is no such class, or it is no adapter.
    """
    if entry.adapter is not None:
        return entry.adapter
    try:
        return _find(entry)
    except _RefusedError as exc:
        mistake = Mistake(entry.place, f"storage {entry.name!r}", exc.message, exc.hint)
    raise ConfigurationError(str(mistake), [mistake])


def _report(mistakes: list[Mistake], name: str, hint: str = "") -> str:
    count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
    head = f"{count} in {name}:" if name else f"{count} in the configuration:"
    return "\n".join([head, *([hint] if hint else []), *map(str, mistakes)])


def _checked(document: Document, path: Path, entry: StorageEntry) -> StorageEntry:
    from flowstore.config.arguments import check_arguments
    from flowstore.config.nodes import Fields, is_sound

    for key in ("name", "classname", "import"):
        node = document.node((*path, key))
        if node is not None and not is_sound(node):
            return entry
    try:
        adapter = _find(entry)
        entry = _with_drivers(document, path, entry, adapter.requires, adapter.extra)
    except _RefusedError as exc:
        key = exc.key if document.node((*path, exc.key)) is not None else "name"
        document.report((*path, key), exc.message, exc.hint)
        return entry
    entry = dataclasses.replace(entry, adapter=adapter, keeps_records=issubclass(adapter, RecordStorage))
    if not entry.keeps_records:
        _check_plain(document, path, entry)
    known = len(document.mistakes())
    configuration = (*path, "configuration")
    given = document.node(configuration)
    if entry.module in selinon.MODULES and isinstance(given, Fields):
        for name in selinon.NO_ARGUMENTS.get(entry.classname, ()):
            given.entries.pop(name, None)
    inner = check_children(document, adapter, configuration, _checked_child)
    arguments = check_arguments(document, adapter, configuration, inner)
    if len(document.mistakes()) == known:
        for where, message in _asked(adapter, "mistakes_in", arguments):
            document.report((*configuration, *where), message)
    if len(document.mistakes()) == known:
        for module, extra in _asked(adapter, "drivers_for", arguments):
            entry = _with_drivers(document, path, entry, (module,), extra)
    return dataclasses.replace(entry, configuration=arguments)


_MEANINGLESS: Final = {
    **dict.fromkeys(
        ("serializer", "strict", "decode_limit", "compression", "encryption"), "writes values in its own way"
    ),
    **dict.fromkeys(("expires", "allow_clear", "max_result_size", "blob_threshold"), "knows nothing of this"),
}
"""Keys of an entry that only a RecordStorage follows, and what another adapter does instead."""


def _with_drivers(
    document: Document, path: Path, entry: StorageEntry, modules: Sequence[str], extra: str | None
) -> StorageEntry:
    """Return an entry as it is if modules are installed; else report that, or note it down in the entry."""
    absent = [module for module in modules if not _is_installed(module)]
    if not absent:
        return entry
    key = "classname" if document.node((*path, "classname")) is not None else "name"
    message = f"{entry.classname!r} needs {', '.join(absent)}, which is not installed"
    hint = f"Run: pip install 'flowstore[{extra}]'" if extra else "Install it."
    if not document.keeps_lacking:
        document.report((*path, key), message, hint)
        return entry
    return dataclasses.replace(entry, lacks=Mistake(entry.place, f"storage {entry.name!r}", message, hint))


def _asked(adapter: type[DataStorage], hook: str, arguments: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return what an adapter says of its arguments; what it raises at them is a mistake in them as well."""
    try:
        return list(getattr(adapter, hook)(arguments))
    except ConfigurationError as exc:
        return [((), str(exc))]
    except Exception as exc:
        if is_interrupt(exc):
            raise
        return [((), f"{adapter.__name__}.{hook}() fails at it: {_told(exc)}")]


def _check_plain(document: Document, path: Path, entry: StorageEntry) -> None:
    """Report what an entry asks of an adapter that is no RecordStorage."""
    if entry.on_conflict != "replace":
        message = f"{entry.classname!r} can only replace what is stored: it is no RecordStorage"
        document.report((*path, "on_conflict"), message, "Leave it out, or write replace.")
    if entry.history != "none":
        document.report((*path, "history"), *_no_history(entry))
    for key, instead in _MEANINGLESS.items():
        if document.node((*path, key)) is not None:
            message = f"{entry.classname!r} {instead}: it is no RecordStorage"
            document.report((*path, key), message, "Leave it out.", of_key=True)


def _checked_child(document: Document, path: Path, entry: StorageEntry) -> StorageEntry:
    checked = _checked(document, path, entry)
    refuse_plain(document, path, checked)
    return checked


def construct(entry: StorageEntry, declared: Callable[[str], DataStorage]) -> DataStorage:
    """Make an instance of a storage's adapter, with those that it works on. No I/O.

    Args:
        entry: as ``load`` returned it.
        declared: returns a declared storage by its name, connected; called when it is first used.

    Raises:
        ConfigurationError: its driver is not installed.
    """
    if entry.lacks is not None:
        raise ConfigurationError(str(entry.lacks), [entry.lacks])
    arguments = with_children(entry.configuration, lambda child: construct(child, declared), declared)
    storage = adapter_class(entry)(**arguments)
    if not storage.thread_safe:
        let_in_one_at_a_time(storage, RecordStorage if isinstance(storage, RecordStorage) else DataStorage)
    return storage


def _check_expiry(document: Document, path: Path, storage: str | None, storages: Mapping[str, StorageEntry]) -> None:
    """Report an expiry of what is in a storage that keeps everything for ever."""
    entry = storages.get(storage or document.configuration.default_storage or "")
    if entry is not None and not entry.keeps_records:
        message = f"storage {entry.name!r} lets nothing expire: {entry.classname!r} is no RecordStorage"
        document.report((*path, "expires"), message, "Leave it out, or name another storage.")


def _check_history(document: Document, path: Path, flow: FlowEntry, storages: Mapping[str, StorageEntry]) -> None:
    name = flow.storage or document.configuration.default_storage
    if flow.history in (None, "none"):
        return
    if name is None:
        message = f"flow {flow.name!r} has no storage that could keep its history"
        document.report((*path, "history"), message, "Name a storage, here or as default_storage under global.")
    entry = storages.get(name or "")
    if entry is not None and not entry.keeps_records:
        document.report((*path, "history"), *_no_history(entry))


def _no_history(entry: StorageEntry) -> tuple[str, str]:
    return f"{entry.classname!r} can keep no history: it is no RecordStorage", "Leave it out, or write none."


def _find(entry: StorageEntry) -> type[DataStorage]:
    name = entry.classname
    if not name.isidentifier():
        raise _RefusedError("classname", f"{name!r} is no class name", "The module belongs to the key 'import'.")
    if not all(part.isidentifier() for part in entry.module.split(".")):
        raise _RefusedError("import", f"{entry.module!r} is no module name", "Write it as in an import statement.")
    if entry.module in selinon.MODULES and not _is_installed("selinon"):
        found = _own(selinon.CLASSES.get(name, name))
    else:
        found = _own(name) if entry.module == OWN_MODULE else _foreign(entry.module, name)
    return _usable(found, name)


def _own(name: str) -> Any:
    module = _imported(OWN_MODULE)
    if name in module.__all__:
        return _attribute(module, name)
    published = {point.name: point for point in _published()}
    if name in published:
        try:
            return published[name].load()
        except Exception as exc:
            if is_interrupt(exc):
                raise
            raise _RefusedError("classname", f"the published adapter {name!r} can't be loaded: {_told(exc)}") from exc
    hint = did_you_mean(name, {*module.__all__, *published})
    if hint and hint.startswith("Known"):
        hint += " A class of your own needs its module in 'import'."
    raise _RefusedError("classname", f"there is no adapter {name!r}", hint)


def _published() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def _foreign(module_name: str, name: str) -> Any:
    module = _imported(module_name)
    found = _attribute(module, name)
    if found is None:
        known = [each for each, value in vars(module).items() if _is_adapter(value)]
        message = f"the module {module_name!r} has no class {name!r}"
        raise _RefusedError("classname", message, did_you_mean(name, known))
    return found


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:  # a foreign module may fail in any way
        if isinstance(exc, Exception) and is_interrupt(exc):
            raise
        hint = None
        if isinstance(exc, ModuleNotFoundError) and exc.name and (name + ".").startswith(exc.name + "."):
            hint = f"The built-in adapters are in {OWN_MODULE!r}; your own module must be on PYTHONPATH."
        raise _RefusedError("import", f"the module {name!r} can't be imported: {_told(exc)}", hint) from exc


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except Exception as exc:  # a class that is loaded on first use may fail in any way
        if is_interrupt(exc):
            raise
        raise _RefusedError("classname", f"{name!r} can't be loaded: {_told(exc)}") from exc


def _told(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _is_adapter(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, DataStorage) and value is not DataStorage


def _usable(found: Any, name: str) -> type[DataStorage]:
    if not isinstance(found, type):
        raise _RefusedError("classname", f"{name!r} is no class, but {type(found).__name__}")
    if not issubclass(found, DataStorage):
        raise _RefusedError("classname", f"{name!r} is no adapter", "Derive it from flowstore.DataStorage.")
    if inspect.isabstract(found):
        methods = ", ".join(sorted(found.__abstractmethods__))
        raise _RefusedError("classname", f"{name!r} does not define {methods}")
    return found


def _is_installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (draft 7) of the configuration file, for editors.

    It knows the arguments of the built-in and the published adapters, whether or not their drivers are installed. One
    whose module can't be imported is left out.
    """
    from flowstore.config import json_schema as editors

    adapters: dict[str, type] = {}
    for name in {*_imported(OWN_MODULE).__all__, *(point.name for point in _published())}:
        try:
            found = _own(name)
        except _RefusedError:
            continue
        if _is_adapter(found):
            adapters[name] = found
    return editors.json_schema(adapters)
