"""The JSON Schema of configuration files, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic.errors import PydanticUserError

from flowstore.config.adapters import named_adapters
from flowstore.config.arguments import UNKNOWN, parameters, takes_file, validator_of
from flowstore.config.model import OWN_MODULE, CacheClass, ConflictPolicy, HistoryPolicy, StoreErrorPolicy
from flowstore.config.shapes import CONFIGURATION_VERSION
from flowstore.encoding.codec import LEVELS, CompressionCodec
from flowstore.encoding.serialize import Serializer

_NAME: Final = {"type": "string", "minLength": 1}
_VARIABLE: Final = {"type": "string", "pattern": r"\{[A-Za-z_][A-Za-z0-9_]*[}:]"}
_FILE: Final = {
    "type": "object",
    "properties": {"file": {"type": "string", "description": "a file that holds the value"}},
    "required": ["file"],
    "additionalProperties": False,
}


def json_schema(adapters: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of configuration files, for editors.

    Args:
        adapters: the classes whose arguments it knows, by ``classname``. By default these are the built-in and the
            published adapters, whether their drivers are installed or not.
    """
    adapters = named_adapters() if adapters is None else adapters
    definitions: dict[str, Any] = {}
    branches = [_branch(name, adapters[name], definitions) for name in sorted(adapters)]
    flag = {"anyOf": [{"type": "boolean"}, _VARIABLE], "default": False}
    storage = _object(
        {
            "name": {**_NAME, "description": "how tasks, flows and programs refer to this storage"},
            "classname": {
                "description": "the adapter's class; the storage's name if left out",
                "anyOf": [{"enum": sorted(adapters)}, _NAME],
            },
            "import": {**_NAME, "description": "the module of the adapter's class", "default": OWN_MODULE},
            "configuration": {"type": ["object", "null"], "description": "keyword arguments of the adapter's class"},
            "on_store_error": _store_error(),
            "on_conflict": _one_of(ConflictPolicy, "replace", "what to do when a result is already stored"),
            "history": _one_of(HistoryPolicy, "none", "which ends of tasks are noted down for good"),
            "cache": {"anyOf": [{"type": "null"}, _cache()]},
            "expires": _span("how long results and errors are kept, unless their flow or task says otherwise"),
            "serializer": _one_of(Serializer, "json", "how values are written"),
            "strict": {**flag, "description": "whether values that would come back as another type are refused"},
            "decode_limit": {
                "anyOf": [{"type": ["integer", "null"], "minimum": 1}, _VARIABLE],
                "description": "the most bytes of memory that reading a compressed value may take",
            },
            "compression": {"anyOf": [{"type": "null"}, _one_of(CompressionCodec, None, "the codec"), _compression()]},
            "encryption": {"anyOf": [{"type": "null"}, _encryption(flag)]},
            "allow_clear": {**flag, "default": True, "description": "whether it may be cleared and purged"},
            "max_result_size": {
                "anyOf": [{"type": ["integer", "null"], "minimum": 1}, _VARIABLE],
                "description": "the most bytes that a stored result may have",
            },
            "blob_threshold": {
                "anyOf": [{"type": ["integer", "null"], "minimum": 1}, _VARIABLE],
                "description": "values of more bytes are kept apart from their records",
            },
        },
        required=["name"],
    )
    storage["allOf"] = branches
    reference = {"type": ["string", "null"], "minLength": 1}
    task = _object(
        {
            "name": {**_NAME, "description": "the Celery task's name"},
            "storage": {**reference, "description": "the storage of its results; null: they are not stored"},
            "storage_readonly": {**flag, "description": "read stored results, but store none"},
            "storage_task_name": {**_NAME, "description": "the task's name in the storage"},
            "output_schema": {**_NAME, "description": "a JSON Schema that its results must meet"},
            "expires": _span("how long its results and errors are kept; null: for ever"),
        },
        required=["name"],
    )
    history = {"anyOf": [{"type": "null"}, _one_of(HistoryPolicy, None, "as of a storage, and before that")]}
    expires = _span("how long its tasks' results and errors are kept; null: for ever")
    flow = _object({"name": _NAME, "storage": reference, "history": history, "expires": expires}, required=["name"])
    top = _object(
        {
            "version": {"const": CONFIGURATION_VERSION},
            "storages": {"type": ["array", "null"], "items": storage},
            "tasks": {"type": ["array", "null"], "items": task},
            "flows": {"type": ["array", "null"], "items": {"anyOf": [flow, _NAME]}},
            "global": {"anyOf": [{"type": "null"}, _object({"default_storage": reference})]},
        }
    )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "flowstore configuration",
        **top,
        "patternProperties": {"^x-": {"description": "for YAML anchors; not read"}},
        "definitions": definitions,
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _one_of(literal: Any, default: str | None, description: str) -> dict[str, Any]:
    values = {"enum": list(get_args(literal))}
    schema = {"anyOf": [values, _VARIABLE], "description": description}
    return schema if default is None else schema | {"default": default}


def _span(description: str, *types: str) -> dict[str, Any]:
    number = {"type": list(types) or ["number", "null"], "exclusiveMinimum": 0}
    text = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[smhdw]?\s*$"}
    return {"anyOf": [number, text, _VARIABLE], "description": description}


def _store_error() -> dict[str, Any]:
    patience = _span("how long a call keeps trying; retry alone means 30s", "number")
    policies = _one_of(StoreErrorPolicy, "retry", "what to do when a result can't be stored, and how long to try")
    return {**policies, "anyOf": [*policies["anyOf"], _object({"retry": patience}, required=["retry"])]}


def _cache() -> dict[str, Any]:
    number = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _VARIABLE]}
    size = {"anyOf": [{"type": "integer", "minimum": 1}, _VARIABLE]}
    classname = {"anyOf": [{"enum": list(get_args(CacheClass))}, _VARIABLE]}
    return _object({"classname": classname, "size": size, "ttl": number}, required=["classname", "size"])


def _compression() -> dict[str, Any]:
    codec = _one_of(CompressionCodec, None, "what compresses")
    most = max(level for levels in LEVELS.values() for level in levels)
    level = {"anyOf": [{"type": ["integer", "null"], "minimum": 1, "maximum": most}, _VARIABLE]}
    min_size = {
        "anyOf": [{"type": "integer", "minimum": 0}, _VARIABLE],
        "description": "smaller values stay as they are",
    }
    return _object({"codec": codec, "level": level, "min_size": min_size}, required=["codec"])


def _encryption(flag: dict[str, Any]) -> dict[str, Any]:
    key = {"anyOf": [{"type": "string", "description": "32 bytes in base64"}, _FILE]}
    keys = {"type": "object", "minProperties": 1, "additionalProperties": key, "description": "by id"}
    active = {**_NAME, "description": "the id of the key that encrypts"}
    required = {**flag, "description": "refuse records that are not encrypted"}
    return _object({"keys": keys, "active": active, "required": required}, required=["keys", "active"])


def _branch(name: str, adapter: type, definitions: dict[str, Any]) -> dict[str, Any]:
    known, open_ended = parameters(adapter)
    properties = {each: _argument(name, each, parameter.annotation, definitions) for each, parameter in known.items()}
    for each, parameter in known.items():
        if isinstance(parameter.default, str | int | float | bool):
            properties[each]["default"] = parameter.default
    configuration: dict[str, Any] = {
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": open_ended,
    }
    required = [each for each, parameter in known.items() if parameter.default is UNKNOWN]
    described = (adapter.__doc__ or "").strip().partition("\n")[0]
    then: dict[str, Any] = {"properties": {"configuration": configuration}}
    if described:
        configuration["description"] = described
    if required:
        configuration |= {"type": "object", "required": required}
        then["required"] = ["configuration"]
    ours = {"import": {"const": OWN_MODULE}}
    by_class = {"properties": {"classname": {"const": name}, **ours}, "required": ["classname"]}
    by_name = {"properties": {"name": {"const": name}, "classname": {"const": name}, **ours}, "required": ["name"]}
    return {"if": {"anyOf": [by_class, by_name]}, "then": then}


def _argument(adapter: str, name: str, annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    validator = validator_of(annotation)
    if validator is not None:
        try:
            schema = validator.json_schema(ref_template=f"#/definitions/{adapter}.{{model}}")
        except PydanticUserError:  # a type without a JSON Schema, such as a plain class
            schema = {}
    for model, definition in schema.pop("$defs", {}).items():
        definitions[f"{adapter}.{model}"] = definition
    if not schema:
        return {}
    alternatives = [schema, _VARIABLE]
    if takes_file(name, annotation):
        alternatives.append(_FILE)
    return {"anyOf": alternatives}
