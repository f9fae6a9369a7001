"""The five parts of a reference, kept apart in any address."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, Final

import pytest

from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import AdapterTests

SEPARATORS: Final = ("", ":", "/", "\\", "\0", "-", "|", ".", "_", "#", ",", "\x1f", " ", "::", "--")
"""What adapters join parts with; ``""`` glues them together."""

_PARTS: Final = {"kind": RESULT, "flow_name": "flow", "task_name": "task", "task_id": "1", "name": ""}


def refs_that_meet(separator: str) -> list[Ref]:
    """Return different references that become equal in pairs once joined.

    For each two parts in either order there are two pairs: in one the separator is in the first or in the second part,
    in the other the second part is empty, because adapters leave out an empty name.
    """
    return list(dict.fromkeys(_refs_that_meet(separator)))


def _refs_that_meet(separator: str) -> Iterator[Ref]:
    for first, second in permutations(_PARTS, 2):
        for one, other in (("a", f"b{separator}c"), (f"a{separator}b", "c"), ("a", "b"), (f"a{separator}b", "")):
            yield _ref(**{first: one, second: other})


def _ref(**parts: Any) -> Ref:
    given = {**_PARTS, **parts}
    return Ref(given["kind"], Key(given["flow_name"], given["task_name"], given["task_id"]), given["name"])


class AddressTests(AdapterTests):
    """No two references share an address."""

    aspect = "keys"

    @pytest.mark.parametrize("separator", SEPARATORS, ids=repr)
    def test_keeps_references_apart_whatever_joins_their_parts(self, storage: RecordStorage, separator: str) -> None:
        """Two references share an address: one task replaces another's result.

        Parts joined by a separator are ambiguous if a part may contain the separator.
        """
        refs = refs_that_meet(separator)
        storage.put_many([Record(ref, str(number).encode()) for number, ref in enumerate(refs)])
        found = storage.get_many(refs)
        confused = [ref for number, (ref, one) in enumerate(zip(refs, found, strict=True)) if not _is(one, number)]
        assert confused == []
        assert storage.count(Query()) == len(refs)


def _is(found: Record | None, number: int) -> bool:
    return found is not None and found.payload == str(number).encode()
