"""Places in servers, and ways around flowstore to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from flowstore.record import Ref
from tests.servers import mysql
from tests.servers.proxy import Proxy, proxy
from tests.storages.storage_kit import Recipe


def with_settings(recipe: Recipe, **settings: Any) -> Recipe:
    return recipe[0], recipe[1] | settings


def is_postgres(recipe: Recipe) -> bool:
    return str(recipe[1]["connection_string"]).startswith("postgres")


def around(recipe: Recipe) -> Any:
    """Connect to the place of a recipe, around flowstore."""
    string = recipe[1]["connection_string"]
    if string.startswith("postgres"):
        return psycopg.connect(string, autocommit=True)
    return mysql.client(string, database=string.rpartition("/")[2])


def ask(recipe: Recipe, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement in the place of a recipe, around flowstore."""
    with around(recipe) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def raw_payload(recipe: Recipe, ref: Ref) -> bytes | None:
    """Read the payload of a record around flowstore."""
    statement = "SELECT value, payload FROM flowstore_records WHERE address = %s"
    for value, payload in ask(recipe, statement, [ref.address]):
        return payload if value is None else value.encode()  # type: ignore[no-any-return]
    return None


@contextmanager
def behind(recipe: Recipe) -> Iterator[tuple[Recipe, Proxy]]:
    """Put a proxy in front of a recipe's server."""
    parts = urlsplit(recipe[1]["connection_string"])
    with proxy(parts.port or 0, parts.hostname or "localhost") as middle:
        login = parts.netloc.rpartition("@")[0]
        string = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{middle.port}"))
        yield (recipe[0], recipe[1] | {"connection_string": string}), middle
