"""What is wrong with an adapter's arguments, as its constructor says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from flowstore.errors import ConfigurationError

_NAME: Final = re.compile(r"([a-z_]+)(?:: | (?=must ))")


def mistakes_of(
    constructor: Callable[..., object], arguments: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what a constructor refuses, for ``DataStorage.mistakes_in``.

    The constructor does no I/O, and its messages begin with the name of an argument where they are about one.
    """
    try:
        constructor(**arguments)
    except (ConfigurationError, ValueError) as exc:
        message = str(exc)
        found = _NAME.match(message)
        if found is not None and found[1] in arguments:
            yield (found[1],), message[found.end() :]
        else:
            yield (), message
