"""The JSON Schemas that tasks name for their results."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any


class UnusableSchemaError(Exception):
    """A file that holds no usable JSON Schema; the message says why."""


def read_schema(path: FilePath) -> dict[str, Any]:
    """Read and check a JSON Schema.

    Raises:
        UnusableSchemaError: the file can't be read, is not JSON, or is not a valid JSON Schema.
    """
    try:
        schema = json.loads(path.read_bytes())
    except OSError as exc:
        raise UnusableSchemaError(f"can't read {path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise UnusableSchemaError(f"{path} is not valid JSON: {exc}") from exc
    if not isinstance(schema, dict):
        raise UnusableSchemaError(f"{path} is no JSON Schema: it must be an object")
    # Costly to import, and few configurations name a schema.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as exc:
        raise UnusableSchemaError(f"{path} is no valid JSON Schema: at {exc.json_path}: {exc.message}") from exc
    return schema
