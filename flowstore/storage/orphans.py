"""Finding and deleting orphans: payloads that no record points to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from flowstore.duration import Duration, seconds
from flowstore.errors import CorruptError
from flowstore.record import PIECE, Query, Record, Ref, pages
from flowstore.record.damage import report_damage
from flowstore.record.headers import is_generation
from flowstore.storage.payloads import GENERATIONS, NUMBER, Content, generation_of, note_of, noted, owner_of
from flowstore.storage.records import Records

_DAY: Final = 86_400.0
_PAGE: Final = 500
_OWNERS: Final = 100

T = TypeVar("T")


class Orphans(Records):
    """Find and delete orphans, in pages, with a few statements for hundreds."""

    def _contents(self) -> Iterator[Content]:
        """Iterate over all contents, including those being written."""
        # Latest first: the first piece found shows how many there are, and when the last one was written.
        query = Query(kinds=(PIECE,), descending=True)
        begun: dict[str, tuple[Ref, int, float]] = {}
        for page in pages(lambda cursor: self._page(query, cursor, _PAGE, False)):
            whole = []
            for record in page.records:
                generation = record.key.task_id
                # Anything with another name is not a piece of flowstore, and stays.
                if is_generation(generation) and NUMBER.fullmatch(record.ref.name):
                    number = int(record.ref.name)
                    try:
                        owner, most, latest = begun.get(generation) or (owner_of(record), 0, 0.0)
                    except CorruptError as exc:
                        _report(exc, record)
                        continue
                    begun[generation] = owner, max(most, number + 1), max(latest, record.stored_at)
                    whole += [generation] if number == 0 else []
            yield from self._found_contents(
                {generation: begun.pop(generation) for generation in whole if generation in begun}
            )
        yield from self._found_contents(begun)

    def _found_contents(self, found: dict[str, tuple[Ref, int, float]]) -> Iterator[Content]:
        owners = _Owners(self, [ref for ref, _, _ in found.values()])
        for generation, (ref, number, written_at) in found.items():
            delete = partial(self._delete_content, ref, generation, number)
            yield Content(generation, written_at, partial(owners.head, ref), delete)

    def remove_orphans(self, older_than: Duration = _DAY) -> int:
        """Delete contents that no record points to; return their number.

        Writers that were killed leave such contents.

        Args:
            older_than: keep contents written within that time: a record may be about to point to them. With 0, no other
                process may be writing.
        """
        before = self._time() - seconds(older_than)
        removed = 0
        try:
            heads = self._pages(Query(kinds=(PIECE,)), False)
            for notes in _batches(head for head in heads if head.ref.name == GENERATIONS):
                self._settle_notes(notes)
            for content in self._contents():
                if content.written_at <= before and _is_orphan(content):
                    content.delete()
                    removed += 1
        except Exception as exc:
            self._raise(exc)
        return removed

    def _settle_notes(self, notes: Sequence[Record]) -> None:
        """Delete contents in these notes that their owners no longer point to."""
        of: list[tuple[Record, Ref]] = []
        for note in notes:
            try:
                of.append((note, _owner_of_note(note)))
            except CorruptError as exc:
                _report(exc, note)
        owners = _Owners(self, [owner for _, owner in of])
        for note, owner in of:
            try:
                if set(noted(note)) != {generation_of(owners.head(owner))}:
                    self._discard_contents(owner, None)
            except CorruptError as exc:
                _report(exc, note)


class _Owners:
    """The records that contents belong to, read together on first use."""

    def __init__(self, storage: Records, refs: Sequence[Ref]) -> None:
        self._storage = storage
        self._refs = list(dict.fromkeys(refs))
        self._found: dict[Ref, Record | None] | None = None

    def head(self, ref: Ref) -> Record | None:
        """Return the record without its payload.

        Raises:
            CorruptError: it can't be read.
        """
        if self._found is None:
            self._found = {}
            for some in _batches(self._refs, _OWNERS):
                try:
                    self._found |= zip(some, self._storage._get_many(some), strict=True)
                except CorruptError:
                    continue  # each of these is read separately
        return self._found[ref] if ref in self._found else self._storage._get(ref, False)


def _owner_of_note(note: Record) -> Ref:
    owner = owner_of(note)
    if note_of(owner) != note.ref:
        raise CorruptError(f"{note.ref} is not the note of {owner}, which it names")
    return owner


def _report(exc: CorruptError, record: Record) -> None:
    exc.ref = record.ref
    report_damage(exc)


def _is_orphan(content: Content) -> bool:
    try:
        return generation_of(content.owner()) != content.generation
    except CorruptError:
        return False  # an unreadable record may point to it


def _batches(items: Iterable[T], size: int = _PAGE) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
