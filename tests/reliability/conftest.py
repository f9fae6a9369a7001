from __future__ import annotations

import pytest

from tests.reliability.figures import COLLECTED, Figures


@pytest.fixture
def figures() -> Figures:
    """Where a test notes what it counted, to be printed when all have run."""
    return COLLECTED
