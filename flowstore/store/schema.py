"""Check results against the JSON Schema of their task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.errors import ResultSchemaError
from flowstore.record import Key

_validators: dict[int, tuple[Mapping[str, Any], Any]] = {}


def check_result(schema: Mapping[str, Any] | None, result: Any, key: Key) -> None:
    """Let a result pass if it satisfies the schema, or if there is none.

    Raises:
        ResultSchemaError: it does not; names the offending part.
    """
    if schema is None:
        return
    import jsonschema  # only those who name a schema pay for it

    known = _validators.get(id(schema))
    if known is None:
        # The schema is kept with its validator, so that its id stays its own.
        known = _validators[id(schema)] = (schema, jsonschema.validators.validator_for(schema)(schema))
    error = jsonschema.exceptions.best_match(known[1].iter_errors(result))
    if error is not None:
        raise ResultSchemaError(
            f"the result of {key} does not satisfy its output_schema at {error.json_path}: {error.message}",
            error.json_path,
        )
