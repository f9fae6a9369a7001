"""The databases: their drivers, their classes, and the versions of their tables."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from flowstore.errors import ConfigurationError, StorageError
from flowstore.storage import SchemaVersion, VersionedSchema

from .target import Settings, Target, parse

_CLASSES: Final = {
    "sqlite": (".sqlite.database", "SqliteDatabase"),
    "postgresql": (".postgres.database", "PostgresDatabase"),
    "mysql": (".mysql.database", "MysqlDatabase"),
}
_DRIVERS: Final = {"postgresql": "psycopg", "mysql": "pymysql"}
_EXTRAS: Final = {"psycopg": "postgres", "pymysql": "mysql", "alembic": "migrations"}
"""Modules that may be missing, and the extras of the package that install them."""


def missing_driver(connection_string: str) -> Iterator[tuple[tuple[str], str]]:
    """Yield a mistake if a database's driver is not installed, as ``DataStorage.mistakes_in`` does.

    The driver is not imported.
    """
    try:
        target = parse(connection_string)
    except ConfigurationError:
        return  # which is another mistake
    driver = _DRIVERS.get(target.dialect)
    if driver is not None and not _is_installed(driver):
        yield ("connection_string",), _needs(str(target), driver)


def database_class(target: Target) -> type[Any]:
    """Return the class for a database; imports its module, and with it the driver.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    module, name = _CLASSES[target.dialect]
    try:
        found: type[Any] = getattr(import_module(module, __package__), name)
    except ModuleNotFoundError as exc:
        raise _missing(exc, str(target)) from exc
    except ImportError as exc:  # psycopg without a library that it needs
        raise ConfigurationError(f"{target}: the driver can't be imported: {' '.join(str(exc).split())}") from exc
    return found


def _migrating() -> ModuleType:
    """Import the module that changes tables.

    Raises:
        ConfigurationError: Alembic is not installed.
    """
    try:
        return import_module(".migrating", __package__)
    except ModuleNotFoundError as exc:
        raise _missing(exc, "a change of the schema") from exc


def _missing(exc: ModuleNotFoundError, what: str) -> Exception:
    name = (exc.name or "").partition(".")[0]
    return ConfigurationError(_needs(what, name)) if name in _EXTRAS else exc


def _needs(what: str, module: str) -> str:
    return f"{what} needs {module}, which is not installed: pip install 'flowstore[{_EXTRAS[module]}]'"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # it is kept from being imported
        return False


class SchemaOfTarget(VersionedSchema):
    """The versions of the tables in the database of a target."""

    _target: Target
    _settings: Settings

    def schema_history(self) -> list[SchemaVersion]:
        found: list[SchemaVersion] = _migrating().history()
        return found

    def schema_version(self) -> str | None:
        database = self._to_migrate()
        found: str | None = None if database is None else _migrating().current(database)
        return found

    def upgrade_schema(self) -> list[SchemaVersion]:
        """Bring the tables to the latest version; return the versions that they went through.

        Raises:
            StorageError: the tables are missing, or of an unknown version.
            UnreachableError: the database can't be reached.
            ConfigurationError: the driver or Alembic is not installed.
        """
        database = self._to_migrate()
        if database is None:
            raise StorageError(f"{self._target} has no tables of flowstore; the first use creates the latest ones")
        found: list[SchemaVersion] = _migrating().upgrade(database)
        return found

    def _to_migrate(self) -> Any:
        return database_class(self._target).to_migrate(self._target, self._settings)
