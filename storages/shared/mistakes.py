"""Mistakes in an adapter's arguments, from its constructor's errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from flowstore.errors import ConfigurationError

_NAME: Final = re.compile(r"([a-z_]+)(?:: | (?=must ))")


def mistakes_of(
    constructor: Callable[..., object], arguments: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield a constructor's error as ``DataStorage.mistakes_in`` does.

    The constructor does no I/O. Its messages about a single argument begin with the argument's name.
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
