"""The module for a database's product, and what can be done with its tables before it is connected."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from flowstore.errors import ConfigurationError, StorageError
from flowstore.storage import SchemaVersion, VersionedSchema
from flowstore.storages.sql.drivers import EXTRAS, needs
from flowstore.storages.sql.target import Settings, Target


def product(target: Target) -> ModuleType:
    """Import the module for a database, with its driver.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    if target.product == "sqlite":
        from flowstore.storages.sql.sqlite import database as _sqlite

        return _sqlite
    try:
        if target.product == "postgresql":
            from flowstore.storages.sql.postgres import database as _postgres

            return _postgres
        from flowstore.storages.sql.mysql import database as _mysql

        return _mysql
    except ModuleNotFoundError as exc:
        raise _missing(exc, str(target)) from exc
    except ImportError as exc:  # psycopg without a library that it needs
        raise ConfigurationError(f"{target}: the driver can't be imported: {' '.join(str(exc).split())}") from exc


def migrations() -> ModuleType:
    """Import the module that changes tables.

    Raises:
        ConfigurationError: Alembic is not installed.
    """
    try:
        from flowstore.storages.sql import migrating as _sql_migrations
    except ModuleNotFoundError as exc:
        raise _missing(exc, "a change of the schema") from exc
    return _sql_migrations


def _missing(exc: ModuleNotFoundError, what: str) -> Exception:
    name = (exc.name or "").partition(".")[0]
    return ConfigurationError(needs(what, name)) if name in EXTRAS else exc


class SchemaOfTarget(VersionedSchema):
    """The versions of the tables in the database of a target."""

    _target: Target
    _settings: Settings

    def schema_history(self) -> list[SchemaVersion]:
        found: list[SchemaVersion] = migrations().history()
        return found

    def schema_version(self) -> str | None:
        database = self._to_migrate()
        found: str | None = None if database is None else migrations().current(database)
        return found

    def upgrade_schema(self) -> list[SchemaVersion]:
        """Bring the tables to the latest version; return the versions that they went through.

        Raises:
            StorageError: there are no tables, or they are of a version that is not known.
            UnreachableError: the database can't be reached.
            ConfigurationError: the driver or Alembic is not installed.
        """
        database = self._to_migrate()
        if database is None:
            raise StorageError(f"{self._target} has no tables of flowstore; the first use creates the latest ones")
        found: list[SchemaVersion] = migrations().upgrade(database)
        return found

    def _to_migrate(self) -> Any:
        return product(self._target).to_migrate(self._target, self._settings)
