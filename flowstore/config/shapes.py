"""The shapes of entries: their keys, types and allowed values."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import ErrorDetails, PydanticCustomError

from flowstore.config.mistakes import did_you_mean
from flowstore.config.model import OWN_MODULE, CacheClass, ConflictPolicy, HistoryPolicy
from flowstore.duration import seconds
from flowstore.encoding.codec import CompressionCodec
from flowstore.encoding.serialize import Serializer

CONFIGURATION_VERSION: Final = 1

_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _flag(value: Any) -> Any:
    """Return a boolean, also from its name as text. Numbers are refused."""
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("flag", "must be true or false")


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not a boolean")
    return value


def _span(value: Any) -> Any:
    try:
        return value if value is None else seconds(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("span", "must be seconds, or a number with s, m, h, d or w, such as 7d") from None


def _positive(value: float | None) -> float | None:
    if value == 0:
        raise PydanticCustomError("span", "must be more than 0; null means never")
    return value


def _patience(value: float) -> float:
    if not value:
        raise PydanticCustomError("span", "must be more than 0; on_store_error: fail never tries again")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Seconds = Annotated[float | None, BeforeValidator(_span), AfterValidator(_positive)]
PatienceSeconds = Annotated[float, BeforeValidator(_span), AfterValidator(_patience)]
NonEmptyName = Annotated[str, Field(min_length=1)]


class Shape(BaseModel):
    """A mapping with fixed keys."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


AnyShape = TypeVar("AnyShape", bound=Shape)


class TopShape(Shape):
    """The whole configuration.

    Entries are checked one by one, so that a wrong one leaves the others.
    """

    version: Annotated[int, BeforeValidator(_number)] = CONFIGURATION_VERSION
    storages: list[Any] | None = None
    tasks: list[Any] | None = None
    flows: list[Any] | None = None
    global_: Any = Field(default=None, alias="global")


class CacheShape(Shape):
    """``cache`` of a storage."""

    classname: CacheClass
    size: Annotated[int, Field(gt=0), BeforeValidator(_number)]
    ttl: Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)] | None = None


class StorageShape(Shape):
    """An item of ``storages``."""

    name: NonEmptyName
    classname: NonEmptyName | None = None
    module: NonEmptyName = Field(default=OWN_MODULE, alias="import")
    configuration: dict[str, Any] | None = None
    on_store_error: Any = "retry"
    on_conflict: ConflictPolicy = "replace"
    history: HistoryPolicy = "none"
    cache: Any = None
    expires: Seconds = None
    allow_clear: Flag = True
    max_result_size: Annotated[int, Field(gt=0), BeforeValidator(_number)] | None = None
    blob_threshold: Annotated[int, Field(gt=0), BeforeValidator(_number)] | None = None
    serializer: Serializer = "json"
    strict: Flag = False
    decode_limit: Annotated[int, Field(gt=0), BeforeValidator(_number)] | None = None
    compression: Any = None
    encryption: Any = None


class PatienceShape(Shape):
    """``on_store_error`` of a storage, as a mapping."""

    retry: PatienceSeconds


class CompressionShape(Shape):
    """``compression`` of a storage, as a mapping."""

    codec: CompressionCodec
    level: Annotated[int, BeforeValidator(_number)] | None = None
    min_size: Annotated[int, Field(ge=0), BeforeValidator(_number)] = 1024


class EncryptionShape(Shape):
    """``encryption`` of a storage."""

    keys: Any
    active: NonEmptyName
    required: Flag = False


class InlineShape(Shape):
    """A storage that is declared inside another one's configuration."""

    classname: NonEmptyName
    module: NonEmptyName = Field(default=OWN_MODULE, alias="import")
    configuration: dict[str, Any] | None = None


class TaskShape(Shape):
    """An item of ``tasks``."""

    name: NonEmptyName
    storage: NonEmptyName | None = None
    storage_readonly: Flag = False
    storage_task_name: NonEmptyName | None = None
    output_schema: NonEmptyName | None = None
    expires: Seconds = None


class FlowShape(Shape):
    """An item of ``flows``."""

    name: NonEmptyName
    storage: NonEmptyName | None = None
    history: HistoryPolicy | None = None
    expires: Seconds = None


class GlobalShape(Shape):
    """``global``."""

    default_storage: NonEmptyName | None = None


def known_keys(shape: type[Shape]) -> list[str]:
    """Return the keys of a shape, as they are written in YAML."""
    return [field.alias or name for name, field in shape.model_fields.items()]


def explain(error: ErrorDetails, shape: type[Shape]) -> tuple[str, str | None]:
    """Return what is wrong, and what to do, in words of the YAML file."""
    kind = error["type"]
    step = error["loc"][-1] if error["loc"] else ""
    if kind == "extra_forbidden":
        return "unknown key", did_you_mean(str(step), known_keys(shape))
    if kind == "missing":
        return f"the key {step!r} is missing", None
    if kind == "literal_error":
        given = error["input"]
        allowed = _literals(shape, str(step))
        hint = did_you_mean(given, allowed) if isinstance(given, str) else None
        return f"must be one of {', '.join(allowed)}", hint if hint and hint.startswith("Did") else None
    if kind == "string_too_short":
        return "must not be empty", None
    if kind in _WORDS:
        return _WORDS[kind]
    return plain_words(error["msg"]), None


_WORDS: Final[dict[str, tuple[str, str | None]]] = {
    "model_type": ("must be a mapping", None),
    "dict_type": ("must be a mapping", None),
    "list_type": ("must be a list", "Begin each entry with '- '."),
    "string_type": ("must be a string", "Quote it to make it one."),
}


def plain_words(message: str) -> str:
    """Return a message of pydantic as a part of ours."""
    return message.removeprefix("Input ").replace("Input should", "should")


def _literals(shape: type[Shape], key: str) -> list[str]:
    annotation = shape.model_fields[key].annotation
    # Either a Literal, or a union of it and None.
    parts = (annotation, *get_args(annotation))
    return [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
