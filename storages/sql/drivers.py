"""What a database needs installed, found out without importing it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from flowstore.errors import ConfigurationError
from flowstore.storages.sql.target import parse

EXTRAS: Final = {"psycopg": "postgres", "pymysql": "mysql", "alembic": "migrations"}
"""Modules that some need, and the extras of the package that install them."""

_DRIVERS: Final = {"postgresql": "psycopg", "mysql": "pymysql"}


def missing_driver(connection_string: str) -> Iterator[tuple[tuple[str], str]]:
    """Yield that the driver for a database is not installed, if so, as ``DataStorage.mistakes_in`` does."""
    try:
        target = parse(connection_string)
    except ConfigurationError:
        return  # which is another mistake
    driver = _DRIVERS.get(target.product)
    if driver is not None and not _is_installed(driver):
        yield ("connection_string",), needs(str(target), driver)


def needs(what: str, module: str) -> str:
    """Return what to tell somebody who has not installed a module."""
    return f"{what} needs {module}, which is not installed: pip install 'flowstore[{EXTRAS[module]}]'"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # it is kept from being imported
        return False
