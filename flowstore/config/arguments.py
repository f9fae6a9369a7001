"""Arguments of adapters, checked by the constructor's signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import ConfigDict, SecretStr, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from flowstore.config.checking import check_inline
from flowstore.config.document import Document, Fields, Node, Path, ScalarNode, children, is_usable, to_data
from flowstore.config.mistakes import closest, did_you_mean
from flowstore.config.model import StorageEntry, StorageReference
from flowstore.config.secrets import file_of, read_secret
from flowstore.config.shapes import plain_words
from flowstore.interrupts import is_interrupt
from flowstore.storage import NestedStorage
from flowstore.texts import is_secret_name

CheckChild = Callable[[Document, Path, StorageEntry], StorageEntry]

UNKNOWN: Final = inspect.Parameter.empty
"""The annotation of a parameter without one, or with one that can't be resolved."""

_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters(adapter: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return a constructor's parameters, and whether it takes any name.

    Only parameters that can be given by name are returned. Annotations are resolved. One that can't be, for example
    because its name is imported for type checkers only, counts as unknown.
    """
    try:
        signature = inspect.signature(adapter)
    except (TypeError, ValueError):
        return {}, True
    makers = (inspect.unwrap(getattr(adapter, name)) for name in ("__init__", "__new__"))
    scope: dict[str, Any] = next((maker.__globals__ for maker in makers if hasattr(maker, "__globals__")), {})
    found = {
        name: each.replace(annotation=_resolved(each.annotation, scope))
        for name, each in signature.parameters.items()
        if each.kind in _BY_NAME
    }
    return found, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())


def _resolved(annotation: Any, scope: dict[str, Any]) -> Any:
    if annotation is UNKNOWN:
        return UNKNOWN
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]
    except Exception as exc:  # foreign annotations may raise anything
        if is_interrupt(exc):
            raise
        return UNKNOWN


def validator_of(annotation: Any) -> TypeAdapter[Any] | None:
    """Return the validator of an annotation, or None if pydantic has none."""
    if annotation is UNKNOWN or annotation is Any:
        return None
    try:
        return TypeAdapter(annotation, config=_CONFIG)
    except PydanticUserError as exc:
        if exc.code != "type-adapter-config-unused":
            return None
    return TypeAdapter(annotation)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types in an annotation, out of unions and ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(each for part in get_args(annotation) for each in members(part))
    return (annotation,)


def takes_file(name: str, annotation: Any) -> bool:
    """Return whether an argument may be written as ``{file: path}``."""
    if annotation is UNKNOWN:
        return is_secret_name(name)
    allowed = members(annotation)
    mapping = any(_is_mapping(each) for each in allowed)
    return not mapping and (is_secret_name(name) or str in allowed or SecretStr in allowed)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Mapping)


def check_arguments(document: Document, adapter: type, path: Path, check_child: CheckChild) -> dict[str, Any]:
    """Check the arguments at ``path`` against an adapter's constructor.

    The constructor is not called. Mistakes are reported to the document.

    Args:
        check_child: checks an entry inside the arguments, and returns it with its own arguments.

    Returns:
        The arguments as the constructor gets them: read from files, and converted by the annotations. Storages that the
        adapter works on are a ``StorageReference`` or a ``StorageEntry``, by name.
    """
    known, open_ended = parameters(adapter)
    checked = _children(document, path, known, check_child)
    node = document.node(path)
    given = node if isinstance(node, Fields) else Fields(document.place(path[:-1]), {})
    if not open_ended:
        _correct(document, adapter, path, given, known)
    arguments: dict[str, Any] = {}
    for name, child in children(given):
        if name in checked:
            arguments[name] = checked[name]
        elif name in known:
            arguments[name] = _Argument(document, (*path, name), known[name].annotation).value(child)
        elif open_ended:
            arguments[name] = _Argument(document, (*path, name), UNKNOWN).value(child)
    missing = [name for name, each in known.items() if each.default is UNKNOWN and name not in arguments]
    if missing:
        listed = ", ".join(map(repr, missing))
        message = f"{adapter.__name__} needs the argument{'s' if len(missing) > 1 else ''} {listed}"
        document.report(path, message, of_key=True)
    return arguments


def _correct(
    document: Document, adapter: type, path: Path, given: Fields, known: Mapping[str, inspect.Parameter]
) -> None:
    """Report the arguments that the constructor doesn't have.

    Go on with those that were probably meant.
    """
    for name in [name for name in given.entries if name not in known]:
        message = f"{adapter.__name__} has no argument {name!r}"
        document.report((*path, name), message, did_you_mean(str(name), known), of_key=True)
        meant = closest(str(name), set(known) - set(given.entries))
        if meant is not None:
            given.rename(name, meant)


def _children(
    document: Document, path: Path, known: Mapping[str, inspect.Parameter], check_child: CheckChild
) -> dict[str, Any]:
    """Return the arguments that hold storages which the adapter works on."""
    found: dict[str, Any] = {}
    for argument, parameter in known.items():
        node = document.node((*path, argument))
        if not _holds_children(parameter.annotation) or node is None:
            continue
        found[argument] = {}
        if not isinstance(node, Fields) or not node.entries:
            document.report((*path, argument), "must be a mapping of names to storages")
            continue
        for name, _ in children(node):
            child = _child(document, (*path, argument, name), check_child)
            if child is not None:
                found[argument][name] = child
    return found


def _holds_children(annotation: Any) -> bool:
    return get_origin(annotation) is not None and NestedStorage in get_args(annotation)


def _child(document: Document, path: Path, check_child: CheckChild) -> StorageReference | StorageEntry | None:
    node = document.node(path)
    assert node is not None
    if isinstance(node, Fields):
        entry = check_inline(document, path)
        return None if entry is None else check_child(document, path, entry)
    name = to_data(node)
    names = [entry.name for _, entry in document.storages]
    if not isinstance(name, str):
        document.report(path, "must be the name of a declared storage, or an entry with a classname")
    elif name not in names:
        document.report(path, f"unknown storage {name!r}", did_you_mean(name, names))
    else:
        return StorageReference(name, path)
    return None


class _Argument:
    def __init__(self, document: Document, path: Path, annotation: Any) -> None:
        self._document = document
        self._path = path
        self._annotation = annotation

    def value(self, node: Node) -> Any:
        """Return the value to call the constructor with, or None and report why."""
        if not is_usable(node):
            return None
        name = str(self._path[-1])
        if takes_file(name, self._annotation) and (file := file_of(node)) is not None:
            candidates = [self._from_file(file)]
            if candidates == [None]:
                return None
        else:
            candidates = self._candidates(node)
        validator = validator_of(self._annotation)
        if validator is None:
            return candidates[0]
        errors: ValidationError | None = None
        for candidate in candidates:
            try:
                value = validator.validate_python(candidate)
            except ValidationError as exc:
                errors = errors or exc
            else:
                if isinstance(candidate, bool) == isinstance(value, bool) or not isinstance(candidate, int):
                    return value
        self._refuse(candidates[0], errors)
        return None

    def _candidates(self, node: Node) -> list[Any]:
        """Return what a value may mean, the likeliest first.

        The text of an unquoted variable may be a number by YAML's rules, and a string if a string is expected.
        """
        if isinstance(node, ScalarNode) and node.expanded is not None:
            texts = [node.expanded]
            return texts if is_secret_name(self._path[-1]) else [node.value, *texts]
        return [self._with_files(node)]

    def _with_files(self, node: Node) -> Any:
        """Return plain data, with the secrets inside read from their files."""
        if not isinstance(node, Fields):
            return to_data(node)
        data = {}
        for key, entry in node.entries.items():
            file = file_of(entry.node) if is_secret_name(key) else None
            data[key] = self._with_files(entry.node) if file is None else self._from_file(file)
        return data

    def _from_file(self, node: Node) -> str | None:
        name = to_data(node)
        if not isinstance(name, str):
            self._document.report(self._path, "'file' must be the path of a file")
            return None
        try:
            secret = read_secret(name, self._document.base)
        except OSError as exc:
            self._document.report(self._path, f"can't read the secret's file {name}: {exc.strerror or exc}")
        except ValueError:
            self._document.report(self._path, f"the secret's file {name} is not UTF-8 text")
        else:
            self._document.secrets.add(secret)
            return secret
        return None

    def _refuse(self, value: Any, errors: ValidationError | None) -> None:
        if errors is None:
            kind = "a number, not true or false" if isinstance(value, bool) else "true or false, not a number"
            self._document.report(self._path, f"should be {kind}")
            return
        found = errors.errors(include_input=False, include_url=False, include_context=False)
        if is_secret_name(self._path[-1]) or any(is_secret_name(step) for error in found for step in error["loc"]):
            self._document.report(self._path, f"should be {_shown(self._annotation)}")
            return
        places: dict[Path, list[str]] = {}
        for error in found:
            path = self._path
            for step in error["loc"]:
                if self._document.node((*path, step)) is not None:
                    path = (*path, step)
            places.setdefault(path, []).append(plain_words(error["msg"]))
        for path, messages in places.items():
            text = "string" in messages[0] and not isinstance(value, str | list | dict)
            hint = "Quote it to make it one." if text else None
            self._document.report(path, ", or ".join(dict.fromkeys(messages)), hint)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
