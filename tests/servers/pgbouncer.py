"""PgBouncer before a PostgreSQL server, for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import PASSWORD, USER, Server, running

MISSING = "no PgBouncer: install it (apt-get install pgbouncer)"


def find() -> str | None:
    """Return the program."""
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


def describe() -> Found:
    """Tell what the tests meet."""
    program = find()
    assert program is not None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return Found("PgBouncer", "real", told.split()[1], f"the program {program}")


class Pgbouncer(Server):
    """A private pooler; set what it is before and how it pools before it starts."""

    upstream = ""
    mode = "transaction"
    size = 3
    ignored = "extra_float_digits"

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        parts = urlsplit(self.upstream)
        place = f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}"
        lines = [
            "[databases]",
            f"* = {place}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = any",
            f"pool_mode = {self.mode}",
            f"default_pool_size = {self.size}",
            f"ignore_startup_parameters = {self.ignored}",
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (self.folder / "pgbouncer.ini").chmod(0o644)

    def command(self) -> list[str]:
        program = find()
        assert program is not None
        return [program, str(self.folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def before(url: str, mode: str, ignored: str = "extra_float_digits") -> Iterator[Pgbouncer]:
    """Start a private pooler before the server at a URL."""
    met.note("SqlStorage", describe())
    kind: type[Pgbouncer] = type("Pgbouncer", (Pgbouncer,), {"upstream": url, "mode": mode, "ignored": ignored})
    with running(kind, ["postgres"]) as pooler:
        yield pooler
