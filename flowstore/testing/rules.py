"""Check what a test class defines, waives and lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

LACKS: Final = "not offered: "
"""Prefix of the reason of a test that is skipped because the adapter lacks the aspect."""

OPTIONAL: Final = frozenset({"instances", "processes", "faults", "raw access", "foreign data", "damaged records"})
"""Aspects that ``lacks`` may name."""

_HOOKS: Final = frozenset(
    {
        "storage_class",
        "configuration",
        "outage",
        "lost_answer",
        "raw_get",
        "bystander",
        "damage",
        "waivers",
        "lacks",
        "deadline",
        "many_references",
    }
)


def is_kit(cls: type[Any]) -> bool:
    """Return whether a class belongs to the kit."""
    return cls.__module__.startswith("flowstore.testing.")


def aspects_of(cls: type[Any]) -> dict[str, str]:
    """Return the kit's tests of a test class, each with its aspect."""
    tests: dict[str, str] = {}
    for base in cls.__mro__:
        if is_kit(base) and "aspect" in vars(base):
            for name in vars(base):
                if name.startswith("test_"):
                    tests.setdefault(name, vars(base)["aspect"])
    return tests


def check(cls: type[Any]) -> None:
    """Raise TypeError if a test class would not test what its report says.

    Raises:
        TypeError: it overrides something of the kit, or waives or lacks something that does not exist.
    """
    if is_kit(cls):
        return
    for mistake in _mistakes(cls):
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} {mistake}")


def _mistakes(cls: type[Any]) -> Iterator[str]:
    kit = [base for base in cls.__mro__ if is_kit(base)]
    for base in cls.__mro__:
        if is_kit(base) or base is object:
            continue
        for name in vars(base):
            if name not in _HOOKS and not name.startswith("__") and any(name in vars(one) for one in kit):
                yield (
                    f"overrides {name!r} of the kit, which would then prove nothing; rename your test, or declare what"
                    " the adapter can't do: waivers = {'test_name': 'the reason'}"
                )
    tests = aspects_of(cls)
    for name, reason in cls.waivers.items():
        if name.partition("[")[0] not in tests:
            yield f"waives {name!r}, which is not a test of the kit"
        if not reason.strip():
            yield f"waives {name!r} without a reason"
    for aspect, reason in cls.lacks.items():
        if aspect not in OPTIONAL:
            yield f"lacks {aspect!r}, which is not optional; optional are: {', '.join(sorted(OPTIONAL))}"
        if not reason.strip():
            yield f"lacks {aspect!r} without a reason"
