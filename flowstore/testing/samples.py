"""Keys and values that databases are known to change, confuse or refuse."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from flowstore.encoding import pipeline
from flowstore.record import RESULT, Key, Record, Ref

KEY: Final = Key("flow", "task", "1")

HOSTILE: Final = (
    "",
    " ",
    "a",
    "A",
    "a ",
    " a",
    "a\n",
    "a\r\n",
    "a\tb",
    "a/b",
    "/a",
    "a\\b",
    ".",
    "..",
    "../../etc/passwd",
    "a\0b",
    "a\0",
    "\0",
    "a:b",
    "a::b",
    "a%2Fb",
    "a?b#c",
    "*",
    "%",
    "_",
    "a'b\"c`d",
    "'; DROP TABLE flowstore_records; --",
    "$where",
    "{a}",
    "~",
    "CON",
    "-rf",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "ß",
    "SS",
    "\u0131",  # an i without its dot
    "i",
    "\u212a",  # the Kelvin sign, which case folding makes a k
    "K",
    "名前",
    "🍎",
    "\u202eabc",
    "\ufeffa",
    "\uffff",
    "\U0010ffff",
    "x" * 1024,
    "x" * 1023 + "y",
    "é" * 512,
)
"""Parts of keys, all different, that must be kept exactly."""

JOINED: Final = (
    Key("a:b", "c", "1"),
    Key("a", "b:c", "1"),
    Key("a", "b", "c:1"),
    Key("", "a:b:c", "1"),
    Key("ab", "", ""),
    Key("a", "b", ""),
    Key("", "ab", ""),
    Key("", "", "ab"),
    Key("", "", ""),
)
"""Different keys whose joined parts are equal."""

PLAIN_VALUES: Final[tuple[object, ...]] = (
    None,
    True,
    False,
    0,
    -1.5,
    "",
    "é\0🍎",
    [],
    {},
    [1, [2, [3]]],
    {"a": None, "": [""]},
)
"""Values that every adapter must keep."""

RICH_VALUES: Final[tuple[object, ...]] = ((1, {2}), b"\xff\0", 2**80)
"""Values that every ``RecordStorage`` must keep, because flowstore encodes them."""


def record(key: Key, value: object, kind: str = RESULT, name: str = "", **facts: Any) -> Record:
    """Return a record of a value as flowstore encodes it.

    ``facts`` are further headers.
    """
    return pipeline.encode(Ref(kind, key, name), value, facts)
