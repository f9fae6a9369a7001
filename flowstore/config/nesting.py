"""Storages that work on other storages: how a configuration says so, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

from flowstore.config.mistakes import did_you_mean
from flowstore.config.model import StorageEntry, StorageReference
from flowstore.storage import Child, RecordStorage

if TYPE_CHECKING:
    from flowstore.config.document import Document
    from flowstore.config.nodes import Path

Check = Callable[["Document", "Path", StorageEntry], StorageEntry]


def check_children(document: Document, adapter: type, path: Path, check: Check) -> dict[str, Any]:
    """Check the storages that an adapter's arguments name or hold; mistakes are reported to the document.

    Args:
        path: that of the adapter's ``configuration``.
        check: checks an entry, and returns it with its arguments.

    Returns:
        By argument, the children by name: a ``StorageReference``, or a ``StorageEntry`` of its own.
    """
    from flowstore.config.arguments import parameters
    from flowstore.config.nodes import Fields, children

    found: dict[str, Any] = {}
    for argument, parameter in parameters(adapter)[0].items():
        node = document.node((*path, argument))
        if not _holds_children(parameter.annotation) or node is None:
            continue
        found[argument] = {}
        if not isinstance(node, Fields) or not node.entries:
            document.report((*path, argument), "must be a mapping of names to storages")
            continue
        for name, _ in children(node):
            child = _child(document, (*path, argument, name), check)
            if child is not None:
                found[argument][name] = child
    return found


def _holds_children(annotation: Any) -> bool:
    return get_origin(annotation) is not None and Child in get_args(annotation)


def _child(document: Document, path: Path, check: Check) -> StorageReference | StorageEntry | None:
    from flowstore.config.checking import check_inline
    from flowstore.config.nodes import Fields, to_data

    node = document.node(path)
    assert node is not None
    if isinstance(node, Fields):
        entry = check_inline(document, path)
        return None if entry is None else check(document, path, entry)
    name = to_data(node)
    names = [entry.name for _, entry in document.storages]
    if not isinstance(name, str):
        document.report(path, "must be the name of a declared storage, or an entry with a classname")
    elif name not in names:
        document.report(path, f"unknown storage {name!r}", did_you_mean(name, names))
    else:
        return StorageReference(name, path)
    return None


def check_references(document: Document, storages: Mapping[str, StorageEntry]) -> None:
    """Report each reference to a storage that keeps no records, or by which a storage would work on itself.

    Args:
        storages: all entries, by name.
    """
    for name, entry in storages.items():
        for reference in references(entry):
            trail = _way(storages, reference.name, name, (name,))
            if trail is not None:
                document.report(reference.path, f"storage {name!r} works on itself: {' -> '.join(trail)}")
            child = storages[reference.name]
            refuse_plain(document, reference.path, child)
            if child.encryption is not None and entry.encryption is None:
                message = f"storage {child.name!r} encrypts, and what {name!r} puts there would not be encrypted"
                document.report(reference.path, message, f"Give {name!r} an 'encryption' of its own.")


def refuse_plain(document: Document, path: Path, entry: StorageEntry) -> None:
    """Report a storage that another one can't work on, because it keeps no records."""
    if not entry.keeps_records:
        document.report(path, f"{entry.classname!r} is no RecordStorage, which is needed here")


def _way(storages: Mapping[str, StorageEntry], start: str, end: str, trail: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names from one storage to another, if references lead there."""
    trail = (*trail, start)
    if start == end:
        return trail
    if start in trail[:-1] or start not in storages:
        return None
    ways = (_way(storages, reference.name, end, trail) for reference in references(storages[start]))
    return next((way for way in ways if way is not None), None)


def references(entry: StorageEntry) -> Iterator[StorageReference]:
    """Yield the references to declared storages in an entry, and in the entries within it."""
    for child in _children_of(entry):
        if isinstance(child, StorageReference):
            yield child
        else:
            yield from references(child)


def _children_of(entry: StorageEntry) -> Iterator[StorageReference | StorageEntry]:
    for argument in entry.configuration.values():
        if isinstance(argument, dict):
            yield from (each for each in argument.values() if isinstance(each, StorageReference | StorageEntry))


def with_children(
    arguments: Mapping[str, Any], make: Callable[[StorageEntry], Any], declared: Callable[[str], Any]
) -> dict[str, Any]:
    """Return an adapter's arguments with a ``Child`` for each storage that it works on.

    Args:
        arguments: as ``loading`` checked them.
        make: makes an instance of an entry.
        declared: returns a declared storage by its name, connected.
    """

    def child(name: str, found: Any) -> Any:
        if isinstance(found, StorageReference):
            return Child(name, lambda: _records(declared(found.name), found.name))
        if isinstance(found, StorageEntry):
            return Child(name, _records(make(found), name))
        return found

    return {
        argument: {name: child(name, each) for name, each in value.items()} if isinstance(value, dict) else value
        for argument, value in arguments.items()
    }


def _records(storage: Any, name: str) -> RecordStorage:
    if not isinstance(storage, RecordStorage):
        raise TypeError(f"storage {name!r} is no RecordStorage")  # refused when the configuration was checked
    return storage
