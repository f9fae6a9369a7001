"""Keys, kinds and names: stored exactly, kept apart in any address."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, Final

import pytest

from flowstore.encoding import pipeline
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import AdapterTests
from flowstore.testing.samples import HOSTILE, JOINED, KEY, record

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


class KeyTests(AdapterTests):
    """Keys, kinds and names are stored exactly and never confused."""

    aspect = "keys"

    @pytest.mark.parametrize("position", ["flow_name", "task_name", "task_id"])
    def test_keeps_hostile_keys_apart(self, storage: RecordStorage, position: str) -> None:
        """A part of a key is trimmed, folded, normalized, cut or matched."""
        names = {"flow_name": "f", "task_name": "t", "task_id": "i"}
        keys = [Key(**{**names, position: part}) for part in HOSTILE]
        for number, (key, part) in enumerate(zip(keys, HOSTILE, strict=True)):
            storage.put(record(key, number, run_id=part, state=part))
        assert [pipeline.decode(storage.get(key)) for key in keys] == list(range(len(keys)))
        assert [found.key for found in storage.records(Query())] == keys
        assert [found and found.key for found in storage.get_many([Ref(RESULT, key) for key in keys])] == keys
        for key, part in zip(keys, HOSTILE, strict=True):
            asked: dict[str, Any] = {position: part}
            queries = [Query(**asked), Query(run_id=part), Query(states=(part,))]
            if position == "task_id":
                queries.append(Query(task_ids=(part,)))
            for query in queries:
                assert [found.key for found in storage.records(query)] == [key]
        assert storage.delete(keys[0])
        assert [found.key for found in storage.records(Query())] == keys[1:]

    def test_keeps_keys_apart_that_look_alike_when_joined(self, storage: RecordStorage) -> None:
        """Two keys are confused whose joined parts are equal."""
        for number, key in enumerate(JOINED):
            storage.put(record(key, number))
        assert [pipeline.decode(storage.get(key)) for key in JOINED] == list(range(len(JOINED)))
        assert [found.key for found in storage.records(Query())] == list(JOINED)

    def test_keeps_hostile_kinds_and_names_apart(self, storage: RecordStorage) -> None:
        """Two kinds or names are confused; applications define their own."""
        refs = [Ref(kind, KEY) for kind in HOSTILE] + [Ref(RESULT, KEY, name) for name in HOSTILE]
        for number, ref in enumerate(refs):
            storage.put(Record(ref, str(number).encode(), {"run_id": "r"}))
        found = storage.get_many(refs)
        assert [one and one.payload for one in found] == [str(number).encode() for number in range(len(refs))]
        assert [one.ref for one in storage.records(Query(run_id="r"))] == refs
        for kind in HOSTILE:
            assert [one.ref for one in storage.records(Query(kinds=(kind,)))] == [Ref(kind, KEY)]
        assert storage.delete_task(KEY) == len(refs)
        assert list(storage.records(Query())) == []


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
