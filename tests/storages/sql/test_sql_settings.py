"""Settings of ``SqlStorage`` that can't work: what ``check`` says about them, and what connecting says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from os import urandom
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from flowstore.config import loading
from flowstore.errors import ConfigurationError
from flowstore.storages import SqlStorage
from flowstore.storages.sql.target import parse
from tests.servers import mysql
from tests.storages.storage_kit import Recipe, make, opened

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

POSTGRES = "postgresql://u:hunter2@127.0.0.1:1/d"
MYSQL = "mysql://u:hunter2@127.0.0.1:1/d"

MISTAKES = [
    ("results.db", "no scheme"),
    ("oracle://u:hunter2@h/d", "'oracle' is not supported; supported are sqlite"),
    ("postgresql+asyncpg://u:hunter2@h/d", "write postgresql:// instead"),
    ("postgresql+psycopg2://u:hunter2@h/d", "write postgresql:// instead"),
    ("mysql+mysqldb://u:hunter2@h/d", "write mysql:// instead"),
    ("sqlite+aiosqlite:///x.db", "write sqlite:// instead"),
    ("postgresql://u:hunter2/1@h/d", r"\[ as %5B, \] as %5D"),
    ("mysql://u:hunter2@h1,h2/d", "is not user:password@host"),
    ("postgresql://u:hunter2@h1:5432,h2:x/d", "is not user:password@host"),
    *(
        (f"{POSTGRES}?{option}", "is not known; known are .*sslmode")
        for option in (
            "prepare_threshold=0",
            "autocommit=1",
            "row_factory=x",
            "cursor_factory=x",
            "context=x",
            "charset=utf8",
            "nonsense=1",
            "replication=database",
        )
    ),
    (f"{POSTGRES}?connect_timeout=abc", "connect_timeout must be a whole number"),
    (f"{POSTGRES}?sslmode=bogus", "sslmode must be one of disable, allow"),
    (f"{POSTGRES}?target_session_attrs=rw", "target_session_attrs must be one of any, read-write"),
    (f"{POSTGRES}?client_encoding=latin1", "client_encoding must be UTF8"),
    (f"{MYSQL}?local_infile=1", "is not known; known are ssl_ca"),
    (f"{MYSQL}?charset=latin1", "charset must be utf8mb4"),
    (f"{MYSQL}?ssl_verify_cert=perhaps", "ssl_verify_cert must be one of 0, 1"),
]


def configured(connection_string: str, **more: Any) -> dict[str, Any]:
    entry = {"name": "S", "classname": "SqlStorage", "configuration": {"connection_string": connection_string, **more}}
    return {"storages": [entry], "global": {"default_storage": "S"}}


@pytest.mark.parametrize(("connection_string", "message"), MISTAKES)
def test_a_connection_string_is_checked_with_the_configuration(connection_string: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        loading.load(configured(connection_string))
    assert "connection_string" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=message):
        SqlStorage(connection_string)


@pytest.mark.parametrize(
    "argument",
    [{"encoding": "latin1"}, {"timeout": 0}, {"connect_timeout": 0}, {"pool_limit": 0}],
    ids=lambda argument: next(iter(argument)),
)
def test_other_arguments_are_checked_with_the_configuration(argument: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"configuration.{next(iter(argument))}: must be"):
        loading.load(configured(POSTGRES, **argument))


@pytest.mark.parametrize(
    "connection_string",
    [
        f"{POSTGRES}?sslmode=require&target_session_attrs=read-write&connect_timeout=5&options=-c%20search_path%3Dx",
        "postgresql:///d?host=h1,h2&port=5432,5433",
        "postgresql://u:p@h1:5432,h2:5432/d?target_session_attrs=read-write",
        "postgresql+psycopg://u:p[1]@[::1]:5432,h2/d",
        f"{MYSQL}?ssl_ca=/ca.pem&ssl_verify_cert=true",
        "sqlite://",
    ],
)
def test_what_can_work_is_taken(connection_string: str) -> None:
    loading.load(configured(connection_string))


def test_a_missing_driver_is_told_with_the_configuration() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = sys.modules['pymysql'] = None\n"
        "from flowstore import FlowstoreError; from flowstore.config import loading\n"
        "for url in ('postgresql://u:p@h/d', 'mysql://u:p@h/d', 'sqlite://'):\n"
        "    entry = {'name': 'S', 'classname': 'SqlStorage', 'configuration': {'connection_string': url}}\n"
        "    try:\n"
        "        loading.load({'storages': [entry]})\n"
        "    except FlowstoreError as exc:\n"
        "        print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'flowstore[postgres]'" in done.stdout
    assert "pip install 'flowstore[mysql]'" in done.stdout
    assert "sqlite" not in done.stdout


def test_several_hosts_are_taken_apart() -> None:
    target = parse("postgresql://me:p%5B@h1,[::1]:5433,h3:5434/d")
    assert (target.host, target.ports, target.password) == ("h1,::1,h3", "5432,5433,5434", "p[")
    assert str(target) == "PostgreSQL at h1:5432,[::1]:5433,h3:5434, database 'd'"


# What only connecting can tell


def elsewhere(recipe: Recipe, database: str, query: str = "") -> Recipe:
    string = recipe[1]["connection_string"].partition("?")[0]
    return recipe[0], {"connection_string": f"{string.rpartition('/')[0]}/{database}{query}"}


def refusal(recipe: Recipe) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make(recipe).connect()
    message = str(caught.value)
    assert "\t" not in message
    assert "\n" not in message
    return message


def test_a_database_that_does_not_exist_is_named(recipe: Recipe) -> None:
    assert "'nowhere' does not exist: create it, or name another one" in refusal(elsewhere(recipe, "nowhere"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?options=-c%20search_path%3Dnowhere", "none of the schemas in search_path"),
        ("?options=-c%20nonsense%3D1", "refuses what 'options' in the connection string says"),
        ("?sslrootcert=/nonexistent&sslmode=verify-ca", "the file that sslrootcert names does not exist"),
    ],
)
def test_postgres_refuses_options_that_only_people_can_mend(postgres_recipe: Recipe, query: str, message: str) -> None:
    assert message in refusal(elsewhere(postgres_recipe, "postgres", query))


def test_mysql_refuses_files_that_are_not_there(mysql_recipe: Recipe) -> None:
    assert "the file that ssl_ca names does not exist" in refusal(
        elsewhere(mysql_recipe, "flowstore", "?ssl_ca=/nonexistent")
    )


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def not_utf8(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    name = f"records_{urandom(4).hex()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_of_another_encoding_is_refused(postgres_recipe: Recipe, not_utf8: str) -> None:
    recipe = elsewhere(postgres_recipe, not_utf8)
    assert "create it with ENCODING 'UTF8'" in refusal(recipe)
    with psycopg.connect(recipe[1]["connection_string"]) as connection:
        found = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'flowstore%'").fetchone()
    assert found == (0,)


def test_the_host_that_answers_is_taken(postgres_recipe: Recipe) -> None:
    parts = urlsplit(postgres_recipe[1]["connection_string"])
    login, _, place = parts.netloc.rpartition("@")
    for hosts in (f"127.0.0.1:1,{place}", f"{place},127.0.0.1:1"):
        string = f"postgresql://{login}@{hosts}{parts.path}?{parts.query}&target_session_attrs=read-write"
        with opened((postgres_recipe[0], {"connection_string": string})) as storage:
            storage.store("f", "t", "1", hosts)
            assert storage.retrieve("f", "t", "1") == hosts


@pytest.mark.parametrize("password", ["für", "naïve€", "p[1]@:/?#%&+ x", "パスワード", "'\"\\"])
def test_a_password_may_have_any_characters(recipe: Recipe, password: str) -> None:
    string = recipe[1]["connection_string"]
    parts = urlsplit(string)
    user = f"user_{urandom(4).hex()}"
    login = f"{user}:{quote(password, safe='')}@"
    if string.startswith("mysql"):
        with mysql.client(string) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE USER '{user}'@'%%' IDENTIFIED BY %s", (password,))
            cursor.execute(f"GRANT ALL ON *.* TO '{user}'@'%'")
        drop = f"DROP USER '{user}'@'%'"
    else:
        with psycopg.connect(string, autocommit=True) as admin:
            quoted = psycopg.sql.Literal(password).as_string(admin)
            admin.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD {quoted}")
        drop = f"DROP OWNED BY {user}; DROP ROLE {user}"
    try:
        theirs = string.replace(f"{parts.netloc.rpartition('@')[0]}@", login, 1)
        with opened((recipe[0], {"connection_string": theirs})) as storage:
            storage.store("f", "t", "1", 1)
            assert storage.retrieve("f", "t", "1") == 1
    finally:
        if string.startswith("mysql"):
            with mysql.client(string) as connection, connection.cursor() as cursor:
                cursor.execute(drop)
        else:
            with psycopg.connect(string, autocommit=True) as admin:
                admin.execute(drop)
