"""Queries by fields of JSON values."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import pytest

from flowstore.errors import CorruptError, UnsupportedError
from flowstore.record import JSON, RESULT, Key, Query, Record, Ref
from flowstore.storage import QueriesFields, RecordStorage
from flowstore.testing.aspects.listing import pages
from flowstore.testing.base import AdapterTests, not_offered
from flowstore.testing.samples import record

VALUES: Final[dict[str, Any]] = {
    "apple": {"sku": "apple", "price": 3, "sold": True, "note": None, "in": {"hall": "A", "shelf": {"no": 1}}},
    "pear": {"sku": "pear", "price": 4.5, "sold": False, "note": "", "in": {"hall": "a", "shelf": {"no": "1"}}},
    "text": {"sku": "Apple", "price": "3", "sold": "true", "note": "null", "in": "hall"},
    "list": {"sku": ["apple"], "price": [3], "sold": 1, "note": [None], "in": [{"hall": "A"}]},
    "float": {"sku": "apple ", "price": 3.0, "sold": 0, "note": False, "in": {"hall": {"A": "A"}}},
    "large": {"price": 2**53 + 1, "sku": "a\0b", "in": {}},
    "small": {"price": -(2**63), "sku": "a", "in": {"hall": None}},
    "names": {"a b": 1, 'a"b': 2, "a\\b": 3, "*": 4, "$": 5, "[0]": 6, "é": 7, "a'b": 8, "0": 9, "a%b": 10, "🍎": 11},
    "unicode": {"sku": "é", "note": "🍎", "in": {"hall": 'a"b\\c', "shelf": "名前\n\t\x01"}},
    "decomposed": {"sku": "e\u0301", "note": "'; DROP TABLE flowstore_records; --"},
    "scalar": "apple",
    "null": None,
    "array": [{"sku": "apple"}],
    "deep": {"a": {"a": {"a": {"a": {"a": "x"}}}}},
}
"""Values whose fields a query could confuse, by task id."""

FIELDS: Final[tuple[tuple[dict[str, Any], tuple[str, ...]], ...]] = (
    ({"sku": "apple"}, ("apple",)),
    ({"sku": "Apple"}, ("text",)),
    ({"sku": "apple "}, ("float",)),
    ({"sku": "APPLE"}, ()),
    ({"sku": "app%"}, ()),
    ({"sku": "*"}, ()),
    ({"sku": "a"}, ("small",)),
    ({"sku": "a\0b"}, ("large",)),
    ({"sku": "é"}, ("unicode",)),
    ({"sku": "e\u0301"}, ("decomposed",)),
    ({"sku": None}, ()),
    ({"price": 3}, ("apple", "float")),
    ({"price": 3.0}, ("apple", "float")),
    ({"price": "3"}, ("text",)),
    ({"price": 4.5}, ("pear",)),
    ({"price": 4}, ()),
    ({"price": True}, ()),
    ({"price": 2**53 + 1}, ("large",)),
    ({"price": 2**53}, ()),
    ({"price": -(2**63)}, ("small",)),
    ({"sold": True}, ("apple",)),
    ({"sold": False}, ("pear",)),
    ({"sold": 1}, ("list",)),
    ({"sold": 0}, ("float",)),
    ({"sold": "true"}, ("text",)),
    ({"note": None}, ("apple",)),
    ({"note": ""}, ("pear",)),
    ({"note": "null"}, ("text",)),
    ({"note": "🍎"}, ("unicode",)),
    ({"note": "'; DROP TABLE flowstore_records; --"}, ("decomposed",)),
    ({"in.hall": "A"}, ("apple",)),
    ({"in.hall": "a"}, ("pear",)),
    ({"in.hall": None}, ("small",)),
    ({"in.hall": 'a"b\\c'}, ("unicode",)),
    ({"in.shelf": "名前\n\t\x01"}, ("unicode",)),
    ({"in.shelf.no": 1}, ("apple",)),
    ({"in.shelf.no": "1"}, ("pear",)),
    ({"in.hall.A": "A"}, ("float",)),
    ({"in": "hall"}, ("text",)),
    ({"0.sku": "apple"}, ()),
    ({"in.0.hall": "A"}, ()),
    ({"a b": 1}, ("names",)),
    ({'a"b': 2}, ("names",)),
    ({"a\\b": 3}, ("names",)),
    ({"*": 4}, ("names",)),
    ({"$": 5}, ("names",)),
    ({"[0]": 6}, ("names",)),
    ({"é": 7}, ("names",)),
    ({"a'b": 8}, ("names",)),
    ({"0": 9}, ("names",)),
    ({"a%b": 10}, ("names",)),
    ({"🍎": 11}, ("names",)),
    ({"a.a.a.a.a": "x"}, ("deep",)),
    ({"a.a.a.a": "x"}, ()),
    ({"sku": "apple", "price": 3, "in.hall": "A"}, ("apple",)),
    ({"sku": "apple", "price": 4}, ()),
    ({"sku": "Apple", "price": 3}, ()),
    ({"price": 3, "sku": "Apple"}, ()),
    ({"'; DROP TABLE flowstore_records; --": 1}, ()),
    ({"$where": "sleep(1000)"}, ()),
)
"""Conditions on fields, and the task ids whose values fulfil them."""


class FieldTests(AdapterTests):
    """Field queries compare exactly and by type; conditions are data."""

    aspect = "fields"

    def test_selects_by_fields(self, storage: RecordStorage) -> None:
        """A field query matches another type, a list item, or a wrong path."""
        self._offered(storage)
        stored = [storage.put(record(Key("f", "t", task_id), value)) for task_id, value in VALUES.items()]
        by_id = {one.key.task_id: one for one in stored}
        for where, expected in FIELDS:
            query = Query(where=where)
            assert tuple(one.key.task_id for one in storage.records(query, payload=False)) == expected, where
            assert storage.count(query) == len(expected), where
            assert storage.scan(query).records == [by_id[task_id] for task_id in expected], where

    def test_selects_by_fields_and_all_else(self, storage: RecordStorage) -> None:
        """A limit or ``skip`` counts excluded values, or a condition is ignored."""
        self._offered(storage)
        stored = []
        for number in range(30):
            key = Key("f" if number % 3 else "g", "t", f"{29 - number:02}")
            stored.append(storage.put(record(key, {"even": number % 2 == 0, "number": number})))
        even = [one for number, one in enumerate(stored) if number % 2 == 0]
        assert pages(storage, Query(where={"even": True}), 4) == even
        assert pages(storage, Query(where={"even": True}, descending=True, skip=3), 4) == even[::-1][3:]
        assert pages(storage, Query(where={"even": True}, order="task_id"), 4) == even[::-1]
        assert pages(storage, Query(where={"even": True}, flow_name="g"), 2) == even[::3]
        assert pages(storage, Query(where={"even": True}, pattern="2*"), 2) == [
            one for one in even if one.key.task_id.startswith("2")
        ]
        assert storage.count(Query(where={"even": True}, flow_name="g", skip=2)) == 5
        assert storage.scan(Query(where={}), limit=100).records == stored

    def test_selects_by_fields_of_values_of_any_size(self, storage: RecordStorage) -> None:
        """A large value is stored in another form, whose fields aren't searched."""
        self._offered(storage)
        stored = []
        for number, size in enumerate((0, 1_000, 100_000, 1_000_000)):
            value = {"number": number, "rest": "x" * size, "list": [{}] * (size // 100)}
            stored.append(storage.put(record(Key("f", "t", str(number)), value)))
        for number, one in enumerate(stored):
            assert storage.scan(Query(where={"number": number})).records == [one]
            assert storage.count(Query(where={"number": number})) == 1

    def test_passes_over_what_is_not_json(self, storage: RecordStorage) -> None:
        """Bytes that look like JSON are treated as JSON."""
        self._offered(storage)
        others: list[dict[str, Any]] = [{}, {"content_type": "application/octet-stream"}, {"content_type": None}]
        for number, headers in enumerate(others):
            storage.put(Record(Ref(RESULT, Key("f", "t", str(number))), b'{"a": 1}', headers))
        stored = storage.put(Record(Ref(RESULT, Key("f", "t", "json")), b'{"a": 1}', {"content_type": JSON}))
        assert storage.scan(Query(where={"a": 1})).records == [stored]
        assert storage.count(Query(where={"a": 1})) == 1

    def test_is_not_misled_by_what_claims_to_be_json(self, storage: RecordStorage) -> None:
        """An invalid JSON value is selected, or raises a driver error."""
        self._offered(storage)
        claims = {"content_type": JSON}
        stored = storage.put(Record(Ref(RESULT, Key("f", "t", "json")), b'{"a": 1}', claims))
        for number, payload in enumerate((b"", b"{", b'{"a": 1', b'{"a": 1} {"a": 1}', b'{"a": "\xff"}', b"a: 1")):
            storage.put(Record(Ref(RESULT, Key("f", "t", str(number))), payload, claims))
        # A database may only report that a value is broken.
        with suppress(CorruptError):
            assert storage.scan(Query(where={"a": 1})).records == [stored]

    def _offered(self, storage: RecordStorage) -> None:
        if not isinstance(storage, QueriesFields):
            with pytest.raises(UnsupportedError, match="QueriesFields"):
                storage.scan(Query(where={"a": 1}))
            with pytest.raises(UnsupportedError, match="QueriesFields"):
                storage.count(Query(where={"a": 1}))
            not_offered("the adapter is not QueriesFields")
