"""The figures that the tests of this folder print at the end: what was tried, and how often it went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.servers import met

_SERVERS: Final = {
    "sqlite": ("SqlStorage", ("SQLite",)),
    "postgres": ("SqlStorage", ("PostgreSQL",)),
    "mysql": ("SqlStorage", ("MySQL", "MariaDB")),
    "redis": ("RedisStorage", ("",)),
    "mongo": ("MongoStorage", ("",)),
    "s3": ("S3Storage", ("",)),
}


def described(place: str) -> str:
    """Say which server a place was on."""
    adapter, names = _SERVERS.get(place, ("", ()))
    servers = [f"{one.nature}: {one.name} {one.version}" for one in met.found(adapter) if one.name.startswith(names)]
    return f"{place} ({'; '.join(servers)})" if servers else place


@dataclass(frozen=True, slots=True)
class Figure:
    """What one test counted: a claim, where it was made, and the counts; ``planted`` is the run with a known bug."""

    claim: str
    place: str
    counts: dict[str, object]
    planted: bool = False


@dataclass
class Figures:
    """Collect what the tests count."""

    kept: list[Figure] = field(default_factory=list)

    def note(self, claim: str, place: str, **counts: object) -> None:
        """Take note of the counts of a run."""
        self.kept.append(Figure(claim, place, counts))

    def planted(self, claim: str, bug: str, **counts: object) -> None:
        """Take note of the counts of a run with a planted bug, which the same check has to find."""
        self.kept.append(Figure(claim, bug, counts, planted=True))

    def told(self) -> list[list[object]]:
        """Return all figures, so that another process can take them over."""
        return [[one.claim, one.place, dict(one.counts), one.planted] for one in self.kept]

    def take_over(self, figures: list[Any]) -> None:
        """Take over the figures of another process that ran a part of the tests."""
        self.kept += [Figure(*one) for one in figures]

    def lines(self) -> Iterator[str]:
        """Return a line for each run, by claim, those with a planted bug last."""
        claims = dict.fromkeys(figure.claim for figure in self.kept)
        for claim in claims:
            yield claim
            for figure in sorted((one for one in self.kept if one.claim == claim), key=lambda one: one.planted):
                counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in figure.counts.items())
                place = f"planted bug: {figure.place}" if figure.planted else described(figure.place)
                yield f"  {place}: {counts}"


COLLECTED = Figures()
