"""Loading: a configuration checked whole, adapters included.

Adapters' classes are imported, and their arguments are checked. Nothing is constructed, and nothing connects.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowstore.config import selinon
from flowstore.config.adapters import UnusableAdapterError, error_text, find_adapter, is_installed
from flowstore.config.mistakes import Mistake
from flowstore.config.model import Configuration, FlowEntry, StorageEntry, StorageReference
from flowstore.errors import ConfigurationError
from flowstore.interrupts import is_interrupt
from flowstore.storage import DataStorage, RecordStorage

if TYPE_CHECKING:
    from flowstore.config.document import Document, Path

_RECORD_KEYS: Final = (
    *("serializer", "strict", "decode_limit", "compression", "encryption"),
    *("expires", "allow_clear", "max_result_size", "blob_threshold"),
)
"""Keys of a storage entry that only a RecordStorage supports."""


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow_missing_drivers: bool = False,
) -> Configuration:
    """Read a configuration and check it whole, adapters included.

    Args:
        source: the path of a YAML file, a mapping of the same form, or None for the file in ``FLOWSTORE_CONFIG``.
        environ: the environment variables; those of the process by default.
        overrides: values by dotted key (``storages.HOT.host``). They win over environment, profile and file.
        allow_missing_drivers: accept storages whose driver is not installed; they raise when they are used.

    Returns:
        The configuration. The arguments of each adapter are converted by the annotations of its constructor.

    Raises:
        ConfigurationError: something is wrong. The message shows every mistake, and ``mistakes`` holds them.
    """
    from flowstore.config.reading import read_document

    document = read_document(source, environ=environ, overrides=overrides)
    document.allows_missing_drivers = allow_missing_drivers
    storages = {entry.name: _checked(document, path, entry) for path, entry in document.storages}
    for path, flow in document.flows:
        _check_history(document, path, flow, storages)
        if flow.expires is not None:
            _check_expiry(document, path, flow.storage, storages)
    for path, task in document.tasks:
        if task.expires is not None and not (task.has_storage_key and task.storage is None):
            _check_expiry(document, path, task.storage, storages)
    _check_references(document, storages)
    mistakes = document.mistakes()
    if mistakes:
        hint = selinon.HINT if document.looks_like_selinon else ""
        raise ConfigurationError(_report(mistakes, document.name, hint), mistakes)
    return dataclasses.replace(document.configuration, storages=storages)


def references(entry: StorageEntry) -> Iterator[StorageReference]:
    """Yield the declared storages that a storage works on.

    Those of the storages inside its own entry are included.
    """
    for argument in entry.configuration.values():
        for child in argument.values() if isinstance(argument, dict) else ():
            if isinstance(child, StorageReference):
                yield child
            elif isinstance(child, StorageEntry):
                yield from references(child)


def _report(mistakes: list[Mistake], name: str, hint: str) -> str:
    count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
    head = f"{count} in {name}:" if name else f"{count} in the configuration:"
    return "\n".join([head, *([hint] if hint else []), *map(str, mistakes)])


def _checked(document: Document, path: Path, entry: StorageEntry) -> StorageEntry:
    """Return an entry with its class and converted arguments."""
    from flowstore.config.arguments import check_arguments
    from flowstore.config.document import Fields, is_usable

    for key in ("name", "classname", "import"):
        node = document.node((*path, key))
        if node is not None and not is_usable(node):
            return entry
    try:
        adapter = find_adapter(entry)
    except UnusableAdapterError as exc:
        key = exc.key if document.node((*path, exc.key)) is not None else "name"
        document.report((*path, key), exc.message, exc.hint)
        return entry
    entry = _with_drivers(document, path, entry, adapter.requires, adapter.extra)
    entry = dataclasses.replace(entry, adapter=adapter, keeps_records=issubclass(adapter, RecordStorage))
    if not entry.keeps_records:
        _check_record_keys(document, path, entry)
    known = len(document.mistakes())
    configuration = (*path, "configuration")
    given = document.node(configuration)
    if entry.module in selinon.MODULES and isinstance(given, Fields):
        for name in selinon.NO_ARGUMENTS.get(entry.classname, ()):
            given.entries.pop(name, None)
    arguments = check_arguments(document, adapter, configuration, _checked_child)
    if len(document.mistakes()) == known:
        for where, message in _answer(adapter, "mistakes_in", arguments):
            document.report((*configuration, *where), message)
    if len(document.mistakes()) == known:
        for module, extra in _answer(adapter, "drivers_for", arguments):
            entry = _with_drivers(document, path, entry, (module,), extra)
    return dataclasses.replace(entry, configuration=arguments)


def _checked_child(document: Document, path: Path, entry: StorageEntry) -> StorageEntry:
    checked = _checked(document, path, entry)
    _check_keeps_records(document, path, checked)
    return checked


def _with_drivers(
    document: Document, path: Path, entry: StorageEntry, modules: Sequence[str], extra: str | None
) -> StorageEntry:
    """Report modules that are not installed.

    If the document allows missing drivers, they are noted in the entry instead.
    """
    absent = [module for module in modules if not is_installed(module)]
    if not absent:
        return entry
    key = "classname" if document.node((*path, "classname")) is not None else "name"
    message = f"{entry.classname!r} needs {', '.join(absent)}, which is not installed"
    hint = f"Run: pip install 'flowstore[{extra}]'" if extra else "Install it."
    if not document.allows_missing_drivers:
        document.report((*path, key), message, hint)
        return entry
    return dataclasses.replace(entry, missing_driver=Mistake(entry.place, f"storage {entry.name!r}", message, hint))


def _answer(adapter: type[DataStorage], hook: str, arguments: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return what a hook of an adapter says about its arguments.

    What it raises is reported as a mistake in the arguments.
    """
    try:
        return list(getattr(adapter, hook)(arguments))
    except ConfigurationError as exc:
        return [((), str(exc))]
    except Exception as exc:
        if is_interrupt(exc):
            raise
        return [((), f"{adapter.__name__}.{hook}() failed: {error_text(exc)}")]


def _check_record_keys(document: Document, path: Path, entry: StorageEntry) -> None:
    """Report the keys that the entry's adapter doesn't support."""
    if entry.on_conflict != "replace":
        message = f"{entry.classname!r} can only replace what is stored: it is not a RecordStorage"
        document.report((*path, "on_conflict"), message, "Leave it out, or write replace.")
    if entry.history != "none":
        document.report((*path, "history"), *_no_history(entry))
    for key in _RECORD_KEYS:
        if document.node((*path, key)) is not None:
            message = f"{entry.classname!r} does not support this key: it is not a RecordStorage"
            document.report((*path, key), message, "Leave it out.", of_key=True)


def _check_expiry(document: Document, path: Path, storage: str | None, storages: Mapping[str, StorageEntry]) -> None:
    """Report ``expires`` if the storage can't expire anything."""
    entry = storages.get(storage or document.configuration.default_storage or "")
    if entry is not None and not entry.keeps_records:
        message = f"storage {entry.name!r} can't expire results: {entry.classname!r} is not a RecordStorage"
        document.report((*path, "expires"), message, "Leave it out, or name another storage.")


def _check_history(document: Document, path: Path, flow: FlowEntry, storages: Mapping[str, StorageEntry]) -> None:
    """Report ``history`` of a flow whose storage can't keep it."""
    name = flow.storage or document.configuration.default_storage
    if flow.history in (None, "none"):
        return
    if name is None:
        message = f"flow {flow.name!r} has no storage to keep its history in"
        document.report((*path, "history"), message, "Name a storage, here or as default_storage under global.")
    entry = storages.get(name or "")
    if entry is not None and not entry.keeps_records:
        document.report((*path, "history"), *_no_history(entry))


def _no_history(entry: StorageEntry) -> tuple[str, str]:
    return f"{entry.classname!r} can't keep a history: it is not a RecordStorage", "Leave it out, or write none."


def _check_references(document: Document, storages: Mapping[str, StorageEntry]) -> None:
    """Report each reference to a storage that another one can't work on."""
    for name, entry in storages.items():
        for reference in references(entry):
            trail = _way(storages, reference.name, name, (name,))
            if trail is not None:
                document.report(reference.path, f"storage {name!r} works on itself: {' -> '.join(trail)}")
            child = storages[reference.name]
            _check_keeps_records(document, reference.path, child)
            if child.encryption is not None and entry.encryption is None:
                message = f"storage {child.name!r} encrypts, but what {name!r} stores in it would not be encrypted"
                document.report(reference.path, message, f"Give {name!r} an 'encryption' too.")


def _check_keeps_records(document: Document, path: Path, entry: StorageEntry) -> None:
    if not entry.keeps_records:
        document.report(path, f"{entry.classname!r} is not a RecordStorage, which is needed here")


def _way(storages: Mapping[str, StorageEntry], start: str, end: str, trail: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names on the way from one storage to another, or None."""
    trail = (*trail, start)
    if start == end:
        return trail
    if start in trail[:-1] or start not in storages:
        return None
    ways = (_way(storages, reference.name, end, trail) for reference in references(storages[start]))
    return next((way for way in ways if way is not None), None)
