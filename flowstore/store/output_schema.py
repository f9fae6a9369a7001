"""Checking results against the ``output_schema`` of their task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.errors import ResultSchemaError
from flowstore.record import Key

_validators: dict[int, tuple[Mapping[str, Any], Any]] = {}


def check_result(schema: Mapping[str, Any] | None, result: Any, key: Key) -> None:
    """Raise ResultSchemaError if a result does not match its schema.

    The error names the offending part. Without a schema, every result matches.
    """
    if schema is None:
        return
    import jsonschema  # only if a schema is configured

    known = _validators.get(id(schema))
    if known is None:
        # Keeps the schema too, so that its id is not reused.
        known = _validators[id(schema)] = (schema, jsonschema.validators.validator_for(schema)(schema))
    error = jsonschema.exceptions.best_match(known[1].iter_errors(result))
    if error is not None:
        raise ResultSchemaError(
            f"the result of {key} does not satisfy its output_schema at {error.json_path}: {error.message}",
            error.json_path,
        )
