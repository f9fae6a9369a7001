"""Migrations of the tables to the latest version, one revision after the other, under a lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from flowstore.errors import StorageError
from flowstore.storage import SchemaVersion

from .database import Database
from .schema import meta

LOCATION: Final = Path(__file__).with_name("versions")

_DIALECTS: Final = MappingProxyType(
    {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://", "mysql": "mysql+pymysql://"}
)


def history(location: Path = LOCATION) -> list[SchemaVersion]:
    """Return all versions, the oldest first."""
    return [_version(script) for script in _scripts(location)]


def current(database: Database) -> str | None:
    """Return the version of a database's tables, or None if they are missing."""
    with _connected(database) as connection:
        return _read(connection)


def upgrade(database: Database, location: Path = LOCATION) -> list[SchemaVersion]:
    """Bring a database's tables to the latest version; return the versions that it went through.

    Either everything is done or nothing, except in MySQL and MariaDB. A concurrent upgrade waits, and finds nothing
    left to do.

    Raises:
        StorageError: the tables are missing or of an unknown version.
    """
    with _connected(database, locked=True) as connection:
        due = _due(_read(connection), location, database)
        for script in due:
            with Operations.context(MigrationContext.configure(connection)):
                script.module.upgrade()
            _note(connection, script.revision)
        connection.commit()
    return [_version(script) for script in due]


def _due(version: str | None, location: Path, database: Database) -> list[Script]:
    scripts = _scripts(location)
    known = [script.revision for script in scripts]
    if version is None:
        raise StorageError(f"{database.target} has no tables of flowstore; the first use creates the latest ones")
    if version not in known:
        raise StorageError(
            f"{database.target} has the schema {version!r}, which this version of flowstore does not know; it knows"
            f" {', '.join(known)}"
        )
    return scripts[known.index(version) + 1 :]


def _scripts(location: Path) -> list[Script]:
    scripts = ScriptDirectory(str(location), version_locations=[str(location)])
    return list(scripts.walk_revisions())[::-1]


def _version(script: Script) -> SchemaVersion:
    return SchemaVersion(script.revision, script.doc.rstrip("."))


def _read(connection: Connection) -> str | None:
    if not inspect(connection).has_table(meta.name):
        return None
    found: str | None = connection.scalar(select(meta.c.value).where(meta.c.name == "schema"))
    return found


def _note(connection: Connection, version: str) -> None:
    if not connection.execute(update(meta).where(meta.c.name == "schema").values(value=version)).rowcount:
        connection.execute(insert(meta).values(name="schema", value=version))


@contextmanager
def _connected(database: Database, *, locked: bool = False) -> Iterator[Connection]:
    """Yield a connection of SQLAlchemy; changes are rolled back unless they are committed."""
    link = database.open_link()
    engine = create_engine(_DIALECTS[database.target.dialect], creator=lambda: link.connection, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            if locked:
                # Only now: SQLAlchemy ends a transaction at its first connection.
                database.lock_schema(link)
            try:
                yield connection
            finally:
                connection.rollback()
                if locked:
                    database.unlock_schema(link)
    except DBAPIError as exc:
        error = database.translate(exc.orig) if exc.orig is not None else None
        raise exc if error is None else error from exc
    finally:
        engine.dispose()
        link.close()
