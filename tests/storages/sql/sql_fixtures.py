"""Servers that the tests of ``SqlStorage`` share, and places in them that are empty and one test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

from flowstore.testing.concurrency import ROUNDS
from tests.servers import met, mysql, postgres
from tests.storages.storage_kit import Recipe


def _places(request: pytest.FixtureRequest) -> list[str]:
    """Return names: one, or several for a test that makes places of its own out of it."""
    more = [f"records{number}" for number in range(ROUNDS)] if "many_places" in request.node.name else []
    run = os.urandom(4).hex()
    return [f"{place}_{run}" for place in ("records", *more)]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL database; whose, the report says."""
    if postgres.GIVEN is None and postgres.find() is None:
        met.skip("SqlStorage", postgres.MISSING)
    with postgres.url() as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """The URL of a MariaDB or MySQL database; whose, the report says."""
    if mysql.GIVEN is None and mysql.find() is None:
        met.skip("SqlStorage", mysql.MISSING)
    with mysql.url() as url:
        yield url


@pytest.fixture
def postgres_recipe(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Recipe]:
    """A schema with nothing in it, and more of them for tests that need several."""
    schemas = _places(request)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(f"CREATE SCHEMA {schema}")
    separator = "&" if "?" in postgres_url else "?"
    options = quote(f"-c search_path={schemas[0]}")
    yield "SqlStorage", {"connection_string": f"{postgres_url}{separator}options={options}"}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def mysql_recipe(request: pytest.FixtureRequest, mysql_url: str) -> Iterator[Recipe]:
    """A database with nothing in it, and more of them for tests that need several."""
    databases = _places(request)
    _run_all(mysql_url, [f"CREATE DATABASE {database}" for database in databases])
    yield "SqlStorage", {"connection_string": f"{mysql_url.rpartition('/')[0]}/{databases[0]}"}
    _run_all(mysql_url, [f"DROP DATABASE {database}" for database in databases])


def _run_all(url: str, statements: list[str]) -> None:
    with mysql.client(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
