"""Adapters: the class that a storage entry names, and instances of it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from flowstore.config import selinon
from flowstore.config.mistakes import Mistake, did_you_mean
from flowstore.config.model import OWN_MODULE, StorageEntry, StorageReference
from flowstore.errors import ConfigurationError
from flowstore.interrupts import is_interrupt
from flowstore.storage import DataStorage, NestedStorage, RecordStorage
from flowstore.storage.locking import serialize_calls

ENTRY_POINTS: Final = "flowstore.storages"
"""The entry point group by which a package publishes adapters that need no ``import``."""


class UnusableAdapterError(Exception):
    """An entry names something that can't be its adapter.

    Attributes:
        key: the key of the entry that is wrong, ``classname`` or ``import``.
        message: what is wrong.
        hint: what to do, if known.
    """

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.message = message
        self.hint = hint


def adapter_class(entry: StorageEntry) -> type[DataStorage]:
    """Return the class of a storage entry, imported.

    Raises:
        ConfigurationError: there is no such class, or it is not an adapter.
    """
    if entry.adapter is not None:
        return entry.adapter
    try:
        return find_adapter(entry)
    except UnusableAdapterError as exc:
        mistake = Mistake(entry.place, f"storage {entry.name!r}", exc.message, exc.hint)
    raise ConfigurationError(str(mistake), [mistake])


def find_adapter(entry: StorageEntry) -> type[DataStorage]:
    """Import the class that an entry names by ``classname`` and ``import``.

    Raises:
        UnusableAdapterError: there is no such class, or it is not an adapter.
    """
    name = entry.classname
    if not name.isidentifier():
        hint = "The module belongs to the key 'import'."
        raise UnusableAdapterError("classname", f"{name!r} is not a class name", hint)
    if not all(part.isidentifier() for part in entry.module.split(".")):
        hint = "Write it as in an import statement."
        raise UnusableAdapterError("import", f"{entry.module!r} is not a module name", hint)
    if entry.module in selinon.MODULES and not is_installed("selinon"):
        found = _by_name(selinon.CLASSES.get(name, name))
    else:
        found = _by_name(name) if entry.module == OWN_MODULE else _in_module(entry.module, name)
    return _usable(found, name)


def named_adapters() -> dict[str, type[DataStorage]]:
    """Return the built-in and the published adapters, by name.

    Those that can't be imported are left out.
    """
    found: dict[str, type[DataStorage]] = {}
    for name in {*_imported(OWN_MODULE).__all__, *(point.name for point in _published())}:
        try:
            adapter = _by_name(name)
        except UnusableAdapterError:
            continue
        if _is_adapter(adapter):
            found[name] = adapter
    return found


def is_installed(module: str) -> bool:
    """Return whether a module can be found, without importing it."""
    return module in sys.modules or importlib.util.find_spec(module) is not None


def error_text(exc: BaseException) -> str:
    """Return the type and the message of an exception."""
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def construct(entry: StorageEntry, declared: Callable[[str], DataStorage]) -> DataStorage:
    """Return a new instance of a storage's adapter, without any I/O.

    Args:
        entry: as ``loading.load`` returned it.
        declared: returns a declared storage by its name, connected. It is called when a storage that works on another
            one first uses it.

    Raises:
        ConfigurationError: its driver is not installed.
    """
    if entry.missing_driver is not None:
        raise ConfigurationError(str(entry.missing_driver), [entry.missing_driver])
    storage = adapter_class(entry)(**_with_children(entry.configuration, declared))
    if not storage.thread_safe:
        serialize_calls(storage, RecordStorage if isinstance(storage, RecordStorage) else DataStorage)
    return storage


def _with_children(arguments: Mapping[str, Any], declared: Callable[[str], DataStorage]) -> dict[str, Any]:
    """Return arguments with a ``NestedStorage`` for each storage in them."""

    def child(name: str, found: Any) -> Any:
        if isinstance(found, StorageReference):
            return NestedStorage(name, lambda: _records(declared(found.name), found.name))
        if isinstance(found, StorageEntry):
            return NestedStorage(name, _records(construct(found, declared), name))
        return found

    return {
        argument: {name: child(name, each) for name, each in value.items()} if isinstance(value, dict) else value
        for argument, value in arguments.items()
    }


def _records(storage: DataStorage, name: str) -> RecordStorage:
    if not isinstance(storage, RecordStorage):
        raise TypeError(f"storage {name!r} is not a RecordStorage")  # refused when the configuration was checked
    return storage


def _by_name(name: str) -> Any:
    """Return the built-in or published adapter of that name."""
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
            message = f"can't load the published adapter {name!r}: {error_text(exc)}"
            raise UnusableAdapterError("classname", message) from exc
    hint = did_you_mean(name, {*module.__all__, *published})
    if hint and hint.startswith("Known"):
        hint += " For your own class, name its module in 'import'."
    raise UnusableAdapterError("classname", f"unknown adapter {name!r}", hint)


def _published() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def _in_module(module_name: str, name: str) -> Any:
    module = _imported(module_name)
    found = _attribute(module, name)
    if found is None:
        known = [each for each, value in vars(module).items() if _is_adapter(value)]
        message = f"the module {module_name!r} has no class {name!r}"
        raise UnusableAdapterError("classname", message, did_you_mean(name, known))
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
        raise UnusableAdapterError("import", f"can't import the module {name!r}: {error_text(exc)}", hint) from exc


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except Exception as exc:  # a class that is loaded on first use may fail in any way
        if is_interrupt(exc):
            raise
        raise UnusableAdapterError("classname", f"can't load {name!r}: {error_text(exc)}") from exc


def _is_adapter(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, DataStorage) and value is not DataStorage


def _usable(found: Any, name: str) -> type[DataStorage]:
    if not isinstance(found, type):
        raise UnusableAdapterError("classname", f"{name!r} is not a class, but of type {type(found).__name__}")
    if not issubclass(found, DataStorage):
        raise UnusableAdapterError("classname", f"{name!r} is not an adapter", "Derive it from flowstore.DataStorage.")
    if inspect.isabstract(found):
        methods = ", ".join(sorted(found.__abstractmethods__))
        raise UnusableAdapterError("classname", f"{name!r} does not define {methods}")
    return found
