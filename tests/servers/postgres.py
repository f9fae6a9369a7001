"""PostgreSQL servers for tests: a private one, or the one at a given address."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import PASSWORD, USER, Server, in_package, running

GIVEN = os.environ.get("FLOWSTORE_TEST_POSTGRES_URL")
MISSING = (
    "no PostgreSQL server: install one (apt-get install postgresql, or pip install pgserver), "
    "or set FLOWSTORE_TEST_POSTGRES_URL to the URL of a database whose owner may create schemas"
)


def find() -> Path | None:
    """Return the folder of PostgreSQL's programs."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(installed, key=lambda path: int(path.parts[-3]), default=None)
    if newest:
        return newest.parent
    return in_package("pgserver", "pginstall", "bin")


def describe() -> Found:
    """Tell what the tests meet."""
    if GIVEN:
        with psycopg.connect(GIVEN) as connection:
            version = str(connection.info.parameter_status("server_version"))
        return Found("PostgreSQL", "real", version, "the address in FLOWSTORE_TEST_POSTGRES_URL")
    programs = find()
    assert programs is not None
    done = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    version = done.stdout.strip().removeprefix("postgres (PostgreSQL) ")
    return Found("PostgreSQL", "real", version, f"the program {programs}/postgres")


class Postgres(Server):
    """A private PostgreSQL server."""

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def programs(self) -> Path:
        programs = find()
        assert programs is not None
        return programs

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        arguments = ["-U", USER, f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "-N"]
        self.call(str(self.programs / "initdb"), "-D", f"{self.folder}/data", *arguments)

    def command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # These tests kill the server, never the machine.
            "fsync": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.programs / "postgres"), "-D", f"{self.folder}/data", *options]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def private() -> Iterator[Postgres]:
    """Start a private server."""
    met.note("SqlStorage", describe())
    with running(Postgres, ["postgres"]) as server:
        yield server


@contextmanager
def url() -> Iterator[str]:
    """Yield the URL of a database: the given one, which has to answer, or that of a private server."""
    if GIVEN:
        psycopg.connect(GIVEN).close()
        met.note("SqlStorage", describe())
        yield GIVEN
    else:
        with private() as server:
            yield server.url
