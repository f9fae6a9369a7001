"""What connection strings mean, and which are refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowstore.errors import ConfigurationError, UnreachableError
from flowstore.storages import SqlStorage
from flowstore.storages.sql.target import Target, parse

CANARY = "hunter2"


def test_nothing_is_loaded_or_opened_before_connect(tmp_path: Path) -> None:
    script = (
        "import sys, flowstore.storages as s; from flowstore.storages import SqlStorage\n"
        f"SqlStorage('sqlite:///{tmp_path}/x.db'); s.FileStorage('{tmp_path}/files'); s.MemoryStorage()\n"
        "SqlStorage('postgresql://u:p@127.0.0.1:1/d'); SqlStorage('mysql://u:p@127.0.0.1:1/d')\n"
        "print([name for name in ('sqlalchemy', 'sqlite3', 'psycopg', 'pymysql') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("connection_string", "message"),
    [
        ("oracle://user:hunter2@host/db", "'oracle' is not supported"),
        ("postgresql+asyncpg://user:hunter2@host/db", "not supported"),
        ("sqlite+aiosqlite:///x.db", "not supported"),
        ("sqlitex:///x.db", "not supported"),
        ("results.db", "no scheme"),
        ("", "no scheme"),
        ("sqlite://results.db", "three slashes.*sqlite:///results.db"),
        ("sqlite:///results.db?timeout=5", "options after"),
        ("postgresql://user:hunter2@host", "name of the database is missing"),
        ("postgresql://user:hun/hunter2@host/db", "write @ as %40"),
        ("postgresql://user:hunter2#1@host/db", "write @ as %40"),
        ("postgresql://user:hunter2?1@host/db", "write @ as %40"),
        ("mysql://user:hunter2@host:port/db", "write @ as %40"),
        ("mysql://user:hunter2@host/db?charset=latin1", "charset must be utf8mb4"),
        ("mysql://user:hunter2@host/db?local_infile=1", "local_infile.*is not known"),
    ],
)
def test_refuses_other_connection_strings(connection_string: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        SqlStorage(connection_string)
    for exc in (caught.value, caught.value.__cause__, caught.value.__context__):
        if exc is caught.value or not getattr(caught.value, "__suppress_context__", False):
            assert CANARY not in str(exc)


@pytest.mark.parametrize(
    ("scheme", "product", "port"),
    [
        ("postgresql", "postgresql", 5432),
        ("postgres", "postgresql", 5432),
        ("postgresql+psycopg", "postgresql", 5432),
        ("mysql", "mysql", 3306),
        ("mysql+pymysql", "mysql", 3306),
        ("mariadb", "mysql", 3306),
    ],
)
def test_takes_connection_strings_apart(scheme: str, product: Any, port: int) -> None:
    expected: dict[str, Any] = {"host": "db.example", "user": "me@work", "password": "p:/?#@%", "database": "my db"}
    string = f"{scheme}://me%40work:p%3A%2F%3F%23%40%25@db.example/my%20db"
    assert parse(string) == Target(product, port=port, **expected)
    assert parse(string.replace("/my", ":99/my")) == Target(product, port=99, **expected)


@pytest.mark.parametrize("string", ["postgres://u:hunter2@[::1]:5433/d", "mysql://u:hunter2@localhost/d"])
def test_shows_no_password(string: str) -> None:
    storage = SqlStorage(string)
    for text in (repr(storage), repr(storage._target), str(storage._target)):
        assert CANARY not in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"encoding": "latin-1"},
        {"synchronous": "OFF"},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"connect_timeout": 0},
        {"pool_limit": 0},
    ],
)
def test_refuses_other_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SqlStorage("sqlite://", **arguments)


def test_a_server_needs_a_time_to_answer() -> None:
    with pytest.raises(ValueError, match=r"timeout.*more than 0"):
        SqlStorage("postgresql://u:p@h/d", timeout=0)


@pytest.mark.parametrize("encoding", [None, "utf-8", "UTF-8", "utf8"])
def test_takes_the_encoding_that_it_has(encoding: str | None) -> None:
    SqlStorage("sqlite://", encoding=encoding)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_names_a_server_that_is_not_there(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = SqlStorage(f"{scheme}://user:{CANARY}@127.0.0.1:1/db", echo=True)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(UnreachableError, match=r"at 127\.0\.0\.1:1, database 'db'") as caught,
    ):
        storage.connect()
    exc: BaseException | None = caught.value
    while exc is not None:
        assert CANARY not in f"{exc} {exc!r}"
        exc = exc.__cause__
    assert CANARY not in caplog.text
    assert not storage.is_connected()


def test_names_the_driver_that_is_missing() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = sys.modules['pymysql'] = None\n"
        "from flowstore.errors import ConfigurationError\n"
        "from flowstore.storages import SqlStorage\n"
        "for scheme in ('postgresql', 'mysql'):\n"
        "    try:\n"
        "        SqlStorage(scheme + '://u:p@127.0.0.1:1/d').connect()\n"
        "    except ConfigurationError as exc:\n"
        "        print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "flowstore[postgres]" in done.stdout
    assert "flowstore[mysql]" in done.stdout
