from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.storages.storage_contract", "tests.storages.storage_races")
