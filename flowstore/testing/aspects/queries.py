"""Queries by pattern, pages by task id, and skipping."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import pytest

from flowstore.errors import StorageError
from flowstore.record import ERROR, RESULT, Key, Query, Record
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.listing import fill, pages
from flowstore.testing.base import AdapterTests
from flowstore.testing.samples import record

IDS: Final = (
    *("", "a", "A", "ab", "a ", " a", "-lock", "a-lock", "b-lock", "a-LOCK", "a/", "a/b", "a/b-lock", "/"),
    *("axb", "a%b", "a_b", "a*b", "a?b", "a.b", "a!b", "a\\b", "a\nb", "a\0b", "a\0", "\0", "a\x01b", "a\x01\x01b"),
    *("[ab]", "b", "a]", "^a$", "(a)", "a|b", "a+b", "{a}", "'; DROP TABLE flowstore_records; --", "$where", "%", "_"),
    *("é", "e\u0301", "名前", "🍎", "🍎b", "\uffff", "\U0010ffff", "\ud7ff", "\ue000", "x" * 1023 + "y", "x" * 1024),
)
"""Task ids that a pattern could take for something else, all different."""

PATTERNS: Final = (
    *("", "*", "**", "?", "??", "???", "?*", "*?", "a", "A", "a*", "*a", "*a*", "a?b", "a*b", "a**b", "a?", "a??b"),
    *("*-lock", "?-lock", "a-*", "*-l*k", "*lock*", "*/*", "a/", "a/*", "*/", "a%b", "a_b", "%", "_", "_*", "%b"),
    *("[ab]", "[ab]*", "[a]", "[!a]", "a]", "^a$", "^*", "(a)", "a|b", "a+b", ".*", "a.b", "a.*", "a\\b", "a\\*"),
    *(
        "\\*",
        "*!*",
        "a!b",
        "!_",
        "{a}",
        "*\0*",
        "a\0*",
        "\0",
        "a\0b",
        "*\0",
        "a*\x01b",
        "*\x01*",
        "*'*",
        "'; DROP TABLE*",
    ),
    *("$*", "é", "e*", "e?", "名?", "?前", "🍎*", "?b", "\uffff*", "\U0010ffff*", "\ud7ff*", "\n", "a\n*"),
    *("x" * 999 + "*", "*" + "x" * 500 + "y", "x*y", "?" * 1000, "?" * 900 + "*"),
)


def is_like(text: str, pattern: str) -> bool:
    """Return whether a text matches a pattern; a simple reference version."""
    places = {0}
    for character in pattern:
        if character == "*":
            places = set(range(min(places), len(text) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(text) and character in ("?", text[at])}
    return len(text) in places


def store(storage: RecordStorage, task_ids: tuple[str, ...]) -> list[Record]:
    """Store a record for each task id; return the stored records."""
    return [storage.put(record(Key("f", "t", task_id), number)) for number, task_id in enumerate(task_ids)]


def by_task_id(records: list[Record]) -> list[Record]:
    """Sort records as ``order="task_id"`` does."""
    return sorted(records, key=lambda one: ([ord(character) for character in one.key.task_id], one.ref.address))


class QueryTests(AdapterTests):
    """Patterns match exactly, pages are sorted by task id, skips are exact."""

    aspect = "queries"

    def test_selects_by_pattern(self, storage: RecordStorage) -> None:
        """A pattern matches too much or too little, or ignores case."""
        stored = store(storage, IDS)
        for pattern in PATTERNS:
            expected = [one.key.task_id for one in stored if is_like(one.key.task_id, pattern)]
            found = [one.key.task_id for one in storage.records(Query(pattern=pattern), payload=False)]
            assert found == expected, pattern

    def test_selects_by_pattern_and_all_else(self, storage: RecordStorage) -> None:
        """A limit or count ignores the pattern, or another condition is lost."""
        stored = store(storage, IDS)
        for task_id in ("a-lock", "b-lock", "a/b-lock"):
            stored.append(storage.put(record(Key("g", "t", task_id), 0, ERROR, run_id="r")))
        some: list[dict[str, Any]] = [
            {"pattern": "*-lock"},
            {"pattern": "*-lock", "flow_name": "g"},
            {"pattern": "?-lock", "run_id": "r"},
            {"pattern": "a*", "kinds": (RESULT,)},
            {"pattern": "*", "task_ids": ("a", "b", "a-lock")},
            {"pattern": "b*", "task_id": "a"},
            {"pattern": "a*", "stored_before": 1.0},
        ]
        for fields in some:
            query = Query(**fields)
            rest = Query(**{name: value for name, value in fields.items() if name != "pattern"})
            expected = [one for one in stored if rest.matches(one) and is_like(one.key.task_id, str(fields["pattern"]))]
            assert storage.scan(query).records == expected, fields
            assert pages(storage, query, 2) == expected, fields
            assert storage.count(query) == len(expected), fields

    def test_is_not_held_up_by_a_hostile_pattern(self, storage: RecordStorage) -> None:
        """Matching takes exponential time, so that the test does not end.

        Each star is tried at every position, for each position of the star before it.
        """
        stored = store(storage, ("a" * 1000, "a" * 500 + "b"))
        assert storage.scan(Query(pattern="*a" * 499 + "*c")).records == []
        assert storage.scan(Query(pattern="*a" * 400 + "*b")).records == stored[1:]

    @pytest.mark.parametrize("descending", [False, True])
    def test_lists_by_task_id(self, storage: RecordStorage, descending: bool) -> None:
        """The order by task id is not by code points, or varies for equal ids."""
        stored = store(storage, IDS)
        for flow_name in ("f", "g"):
            stored += [storage.put(record(Key(flow_name, "t", "a"), 0, ERROR, name)) for name in ("", "1")]
        expected = by_task_id(stored)
        if descending:
            expected.reverse()
        query = Query(order="task_id", descending=descending)
        assert storage.scan(query, limit=len(stored)).records == expected
        assert storage.scan(query, limit=len(stored)).cursor is None
        assert pages(storage, query, 7) == expected
        some = Query(order="task_id", descending=descending, kinds=(ERROR,))
        assert pages(storage, some, 3) == [one for one in expected if one.kind == ERROR]
        heads = [Record(one.ref, b"", one.headers, one.revision) for one in expected]
        assert storage.scan(query, limit=5, payload=False).records == heads[:5]

    def test_goes_on_by_task_id_while_records_come_and_go(self, storage: RecordStorage) -> None:
        """A listing repeats or skips records while some are stored or deleted.

        That is so if the cursor counts records.
        """
        store(storage, ("b", "d", "f", "h", "j"))
        page = storage.scan(Query(order="task_id"), limit=2)
        assert [one.key.task_id for one in page.records] == ["b", "d"]
        for task_id in ("b", "d", "h"):
            storage.delete(Key("f", "t", task_id))
        store(storage, ("a", "e", "z"))
        rest = storage.scan(Query(order="task_id"), cursor=page.cursor)
        assert [one.key.task_id for one in rest.records] == ["e", "f", "j", "z"]

    @pytest.mark.parametrize("cursor", ["", "x", "12", "0" * 64, "0" * 64 + ".", "0" * 64 + ".!", "0" * 64 + "./w=="])
    def test_refuses_a_foreign_cursor_by_task_id(self, storage: RecordStorage, cursor: str) -> None:
        """An invalid cursor raises a driver error.

        It may be refused, or be taken as a position.
        """
        stored = store(storage, ("a", "b"))
        with suppress(StorageError):
            assert storage.scan(Query(order="task_id"), cursor=cursor).records == stored

    @pytest.mark.parametrize("order", ["stored", "task_id"])
    @pytest.mark.parametrize("descending", [False, True])
    def test_skips(self, storage: RecordStorage, order: Any, descending: bool) -> None:
        """``skip`` counts excluded records, is applied per page, or to counts."""
        stored = fill(storage)
        some: list[dict[str, Any]] = [
            {},
            {"states": ("SUCCESS",)},
            {"run_id": "r2", "task_name": "t"},
            {"pattern": "1"},
        ]
        for fields in some:
            query = Query(**fields, order=order, descending=descending)
            selected = [one for one in stored if query.matches(one)]
            expected = by_task_id(selected) if order == "task_id" else selected
            if descending:
                expected.reverse()
            for skip in (1, 3, len(expected) - 1, len(expected), len(expected) + 5):
                skipping = Query(**fields, order=order, descending=descending, skip=skip)
                assert storage.scan(skipping).records == expected[skip:], (fields, skip)
                assert storage.count(skipping) == len(expected)
            skipping = Query(**fields, order=order, descending=descending, skip=2)
            assert pages(storage, skipping, 2) == expected[2:]
            assert list(storage.records(skipping)) == expected[2:]
