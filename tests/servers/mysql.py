"""MariaDB and MySQL servers for tests: a private one, or the one at a given address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import PASSWORD, USER, Server, running

GIVEN = os.environ.get("FLOWSTORE_TEST_MYSQL_URL")
MISSING = (
    "no MariaDB or MySQL server: install one (apt-get install mariadb-server), "
    "or set FLOWSTORE_TEST_MYSQL_URL to a URL whose user may create databases"
)
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"))


def find() -> str | None:
    """Return the server's program."""
    return shutil.which("mariadbd", path=_PLACES) or shutil.which("mysqld", path=_PLACES)


def client(url: str, **more: Any) -> Any:
    """Connect to the server at a URL, around flowstore."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        autocommit=True,
        **more,
    )


def describe() -> Found:
    """Tell what the tests meet."""
    if GIVEN:
        with client(GIVEN) as connection:
            version = str(connection.server_version)
        return Found(_maker(version), "real", version, "the address in FLOWSTORE_TEST_MYSQL_URL")
    program = find()
    assert program is not None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"Ver (\S+)", told)
    version = match[1] if match else told.strip()
    return Found(_maker(version), "real", version, f"the program {program}")


def _maker(version: str) -> str:
    return "MariaDB" if "mariadb" in version.lower() else "MySQL"


class Mysql(Server):
    """A private MariaDB or MySQL server."""

    @property
    def url(self) -> str:
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/flowstore"

    @property
    def program(self) -> str:
        program = find()
        assert program is not None
        return program

    def create(self) -> None:
        install = shutil.which("mariadb-install-db", path=_PLACES)
        data = f"--datadir={self.folder}/data"
        if install and "mariadb" in self.program:
            method = "--auth-root-authentication-method=normal"
            # A folder of its own for temporary files too: two that begin at once have the same names for theirs.
            temporary = f"--tmpdir={self.folder}"
            self.call(install, "--no-defaults", data, method, "--skip-test-db", "--skip-name-resolve", temporary)
        else:
            self.call(self.program, "--no-defaults", "--initialize-insecure", data)
        # The server's user is created with the server's first start: this file is read at each.
        account = f"'{USER}'@'127.0.0.1'"
        statements = [
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION",
            "CREATE DATABASE IF NOT EXISTS flowstore",
        ]
        file = self.folder / "init.sql"
        file.write_text("".join(f"{statement};\n" for statement in statements))
        file.chmod(0o644)

    def command(self) -> list[str]:
        settings = {
            "datadir": f"{self.folder}/data",
            "socket": f"{self.folder}/socket",
            "pid-file": f"{self.folder}/pid",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "init-file": f"{self.folder}/init.sql",
            "skip-name-resolve": "ON",
            "innodb-buffer-pool-size": "64M",
            # These tests kill the server, never the machine.
            "innodb-flush-log-at-trx-commit": "2",
        }
        return [self.program, "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]

    def answers(self) -> bool:
        try:
            client(self.url, connect_timeout=5).close()
        except pymysql.OperationalError:
            return False
        return True


@contextmanager
def private() -> Iterator[Mysql]:
    """Start a private server."""
    met.note("SqlStorage", describe())
    with running(Mysql, ["mysql"]) as server:
        yield server


@contextmanager
def url() -> Iterator[str]:
    """Yield the URL of a database: the given one, which has to answer, or that of a private server."""
    if GIVEN:
        client(GIVEN).close()
        met.note("SqlStorage", describe())
        yield GIVEN
    else:
        with private() as server:
            yield server.url
