"""Mistakes in an adapter's arguments, from its constructor's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowstore.errors import ConfigurationError

_NAME: Final = re.compile(r"([a-z_]+)(?:: | (?=must ))")


class ChecksArguments:
    """A mixin for adapters whose constructors refuse wrong arguments.

    The constructor does no I/O. Its messages about a single argument begin with the argument's name.
    """

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        """Yield the constructor's error as a mistake; see ``DataStorage.mistakes_in``."""
        try:
            cls(**arguments)
        except (ConfigurationError, ValueError) as exc:
            message = str(exc)
            found = _NAME.match(message)
            if found is not None and found[1] in arguments:
                yield (found[1],), message[found.end() :]
            else:
                yield (), message
