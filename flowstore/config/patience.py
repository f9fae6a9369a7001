"""What becomes of a result that can't be stored, and for how long it is tried: ``on_store_error``."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from flowstore.config.document import Document
from flowstore.config.mistakes import did_you_mean
from flowstore.config.model import PATIENCE, StoreErrorPolicy
from flowstore.config.nodes import Fields, Path, to_data
from flowstore.config.shape import PatienceShape

Shaped = Callable[[type[PatienceShape], Path], PatienceShape | None]


def read_store_error(document: Document, path: Path, shaped: Shaped) -> tuple[StoreErrorPolicy, float]:
    """Return the policy at a path and its patience in seconds; report its mistakes.

    It is a word, or ``{retry: 2m}``.
    """
    node = document.node(path)
    if node is None:
        return "retry", PATIENCE
    if isinstance(node, Fields):
        shape = shaped(PatienceShape, path)
        return "retry", PATIENCE if shape is None else shape.retry
    policy = to_data(node)
    known: tuple[StoreErrorPolicy, ...] = get_args(StoreErrorPolicy)
    if policy in known:
        return policy, PATIENCE if policy == "retry" else 0.0
    hint = did_you_mean(policy, known) if isinstance(policy, str) else None
    if hint is None or not hint.startswith("Did"):
        hint = "Write {retry: 2m} to say for how long."
    document.report(path, f"must be one of {', '.join(known)}", hint)
    return "retry", PATIENCE
