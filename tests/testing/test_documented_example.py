"""The complete example of the documentation passes the suite that the documentation tells people to run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]

SUITE = """
from dict_storage import DictStorage
from flowstore.testing import StorageTests
import pytest


class TestDict(StorageTests):
    storage_class = DictStorage
    lacks = {
        "instances": "each has records of its own",
        "processes": "each has records of its own",
        "faults": "there is no server",
        "raw access": "there is nothing but the adapter",
        "foreign data": "there is nothing but the adapter",
        "damaged records": "there is nothing but the adapter",
    }

    @pytest.fixture
    def configuration(self):
        return {}
"""


def test_the_documented_adapter_passes_the_suite(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "write-an-adapter.md").read_text()
    example = re.search(r'```python title="dict_storage.py"\n(.*?)```', page, re.DOTALL)
    assert example is not None
    (tmp_path / "dict_storage.py").write_text(example[1])
    (tmp_path / "test_dict.py").write_text(SUITE)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", "--tb=short"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "test_dict.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    assert "TestDict (dict_storage.DictStorage): all proven that it offers" in done.stdout
