"""flowstore's errors pass between processes whole, also through Celery's way of doing so."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
from celery.utils.serialization import get_pickleable_exception, get_pickled_exception

import flowstore
from flowstore import errors
from flowstore.encoding.pipeline import encode
from flowstore.errors import (
    ConfigurationError,
    ConflictError,
    FlowstoreError,
    ResultSchemaError,
    SerializationError,
    StorageError,
    UnreachableError,
)
from flowstore.record import RESULT, Key, Ref


def classes(base: type[FlowstoreError]) -> Iterator[type[FlowstoreError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from classes(each)


SAMPLES: list[FlowstoreError] = [
    *(each("the message") for each in classes(FlowstoreError)),
    SerializationError("m", "$.rows[3]", "object"),
    ResultSchemaError("m", "$.price"),
    ConfigurationError("m", ["one", "two"]),
    ConflictError("m", encode(Ref(RESULT, Key("f", "t", "i")), [1])),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives(error: FlowstoreError) -> None:
    if isinstance(error, StorageError):
        error.storage = "Main"
    for again in (
        pickle.loads(pickle.dumps(error)),
        copy.copy(error),
        get_pickled_exception(get_pickleable_exception(error)),
    ):
        assert type(again) is type(error)
        assert again.args == error.args
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_every_error_is_in_the_documented_tree_and_exported() -> None:
    for each in classes(FlowstoreError):
        assert each.__name__ in (errors.__doc__ or "")
        assert getattr(flowstore, each.__name__) is each


def test_an_unreachable_storage_is_named() -> None:
    assert UnreachableError("m").storage is None
