"""``flowstore conformance``: the kit in a pytest of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import Place

ADAPTER = """\
from flowstore.storages import FileStorage


class AcmeStorage(FileStorage):
    pass


class ForgetsDeletes(FileStorage):
    def _delete(self, ref, if_revision):
        return True


class NoAdapter:
    pass
"""
CONFIGURATION = """\
storages:
  - name: {name}
    classname: {name}
    import: acme
    configuration: {{path: '{path}', durable: false}}
"""
LACKS = (
    *("--lacks", "faults=there is no server"),
    *("--lacks", "raw access=left out"),
    *("--lacks", "foreign data=left out"),
    *("--lacks", "damaged records=left out"),
)


@pytest.fixture
def acme(tmp_path: Path) -> Place:
    """A folder with an adapter of somebody's own, and configurations for it."""
    (tmp_path / "acme.py").write_text(ADAPTER)
    for name in ("AcmeStorage", "ForgetsDeletes"):
        text = CONFIGURATION.format(name=name, path="{TEST_FOLDER}/acme")
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "one-place.yaml").write_text(CONFIGURATION.format(name="AcmeStorage", path=f"{tmp_path}/place"))
    # Whose tests these are must not matter.
    (tmp_path / "conftest.py").write_text("raise SystemExit('somebody else is tested')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    return Place(tmp_path)


def test_an_adapter_that_is_right_proves_it(acme: Place) -> None:
    done = acme.run(
        "conformance",
        "acme:AcmeStorage",
        "--config",
        "AcmeStorage.yaml",
        *LACKS,
        "-k",
        "keys or hostile_kinds or references_apart",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TestAcmeStorage (acme.AcmeStorage): not fully proven" in done.stdout
    assert "keys (4)" in done.stdout
    assert not (acme.path / "acme").exists(), "each test has a folder of its own"


def test_an_adapter_that_is_wrong_fails(acme: Place) -> None:
    arguments = [
        "conformance",
        "acme:ForgetsDeletes",
        "--config",
        "ForgetsDeletes.yaml",
        "-k",
        "deletes_many or counts",
    ]
    done = acme.run(*arguments)
    assert done.returncode == 1
    assert "failed: batches: test_deletes_many" in done.stdout


def test_repeats_the_concurrency_tests(acme: Place) -> None:
    arguments = ["conformance", "acme:AcmeStorage", "--config", "AcmeStorage.yaml", "--repeat", "3", "-k", "one_thread"]
    done = acme.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  repeated: threads 3 times\n" in done.stdout


def test_runs_without_a_configuration(acme: Place) -> None:
    own = ("--lacks", "instances=each has its own", "--lacks", "processes=each has its own")
    done = acme.run("conformance", "flowstore.storages:MemoryStorage", *own, *LACKS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MemoryStorage): all proven that it offers" in done.stdout


def test_empties_a_place_only_if_told_to(acme: Place) -> None:
    arguments = ["conformance", "acme:AcmeStorage", "--config", "one-place.yaml", "-k", "test_counts"]
    refused = acme.run(*arguments)
    assert refused.returncode == 2
    assert "all tests would share one place" in refused.stderr
    assert not (acme.path / "place").exists()
    done = acme.run(*arguments, "--purge")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["acme.AcmeStorage"], 3, "'acme.AcmeStorage' is not of the form module:Class"),
        (["acme:NoSuch"], 3, "can't import acme:NoSuch"),
        (["acme:AcmeStorage"], 3, "acme:AcmeStorage needs arguments; pass a configuration with --config"),
        (["no_such_module:Acme"], 3, "can't import no_such_module:Acme"),
        (["acme:NoAdapter"], 3, "acme:NoAdapter is not an adapter"),
        (["acme:AcmeStorage", "--config", "no-such.yaml"], 3, "no-such.yaml"),
        (
            ["acme:AcmeStorage", "--config", "ForgetsDeletes.yaml"],
            3,
            "one storage of the class acme:AcmeStorage; it has: none",
        ),
        (["acme:AcmeStorage", "--lacks", "faults"], 2, "'faults' is not of the form ASPECT=REASON"),
        (
            ["acme:AcmeStorage", "--lacks", "revisions=none"],
            2,
            "--lacks 'revisions': not an optional aspect; optional are damaged records",
        ),
        (["acme:AcmeStorage", "--config", "AcmeStorage.yaml", "-k", "no_such_test"], 2, "matches no test"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(acme: Place, arguments: list[str], status: int, message: str) -> None:
    done = acme.run("conformance", *arguments)
    assert message in done.stderr
    assert done.returncode == status
