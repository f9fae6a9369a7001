"""Random histories of the whole contract, in every storage, against a dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from flowstore.errors import NotFoundError
from flowstore.storage import RecordStorage
from tests.reliability.figures import Figures
from tests.reliability.work import Forgetful
from tests.storages.places import SERVERS
from tests.storages.storage_kit import Recipe, opened
from tests.storages.test_storage_model import History

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("postgres", "redis", "mongo")

CLAIM = "the contract against a model: histories, steps, differences"


class Counted(History):
    """A history in one place, which is emptied before each."""

    place: ClassVar[Recipe]
    counts: ClassVar[Counter[str]]

    def recipe(self) -> Recipe:
        with opened(self.place) as storage:
            storage.purge()
        self.counts["histories"] += 1
        return self.place

    @invariant()
    def counts_a_step(self) -> None:
        self.counts["steps"] += 1


def run(machine: type[History], examples: int, steps: int, phases: Collection[Phase] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


@pytest.mark.parametrize("kind", SERVERS)
def test_behaves_like_a_dictionary(kind: str, recipe: Recipe, figures: Figures) -> None:
    class OfKind(Counted):
        place = recipe
        # PostgreSQL before 16 can't look for fields beside payloads that claim to be JSON and are none.
        asks_fields = kind != "postgres"
        counts: ClassVar[Counter[str]] = Counter()

    run(OfKind, 15, 25)
    figures.note(CLAIM, kind, **OfKind.counts, differences=0)


def test_finds_an_adapter_that_forgets(tmp_path: Path, figures: Figures) -> None:
    class OfForgetful(History):
        def instance(self) -> RecordStorage:
            return Forgetful(f"sqlite:///{self.folder}/records.db")

    with pytest.raises((AssertionError, NotFoundError, BaseExceptionGroup)) as caught:
        run(OfForgetful, 30, 40, [Phase.generate])  # that it is found is enough
    figures.planted(CLAIM, "every third record is forgotten", found_by=type(caught.value).__name__)
