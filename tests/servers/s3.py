"""S3 servers for tests: a private one, the one at a given address, or moto, which only emulates one."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import PASSWORD, Server

GIVEN = os.environ.get("FLOWSTORE_TEST_S3_URL")
BUCKET = "flowstore-tests"
KEY = "canary-5d1e"
MISSING = (
    "no S3 server: install versitygw (go install github.com/versity/versitygw/cmd/versitygw@latest), "
    "or set FLOWSTORE_TEST_S3_URL to http://key:secret@host:port"
)
MISSING_EMULATION = "no emulation of S3: pip install 'moto[server]'"


@dataclass(frozen=True)
class Store:
    """How a server is reached, and its handle if it is a private one."""

    url: str
    key: str = KEY
    secret: str = PASSWORD
    server: Server | None = None

    def begin(self) -> None:
        """Make it unreachable."""
        assert self.server is not None
        self.server.kill()

    def end(self) -> None:
        """Make it reachable again."""
        assert self.server is not None
        self.server.start()

    @property
    def configuration(self) -> dict[str, Any]:
        return {
            "bucket": BUCKET,
            "endpoint_url": self.url,
            "location": "us-east-1",
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
        }

    def client(self) -> Any:
        return Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
        )


def find() -> str | None:
    """Return the path of versitygw."""
    return shutil.which("versitygw") or shutil.which("versitygw", path=str(Path.home() / "go" / "bin"))


def find_emulation() -> bool:
    return importlib.util.find_spec("moto") is not None and importlib.util.find_spec("flask") is not None


def describe() -> Found:
    """Tell what the tests meet."""
    if GIVEN:
        return Found("a store for S3", "independent", "of unknown version", "the address in FLOWSTORE_TEST_S3_URL")
    program = find()
    assert program is not None
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"Version\s*:\s*(\S+)", done.stdout)
    told = match[1] if match else " ".join(done.stdout.split())
    return Found("versitygw on a local disk", "independent", told, f"the program {program}")


def describe_emulation() -> Found:
    return Found("moto", "emulated", version("moto"), "the package from PyPI")


class _Private(Server):
    def create(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "versions").mkdir()

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Versity(_Private):
    def command(self) -> list[str]:
        program = find()
        assert program is not None
        options = ["--port", f"127.0.0.1:{self.port}", "--quiet", "--keep-alive"]
        return [program, *options, "posix", "--versioning-dir", f"{self.folder}/versions", f"{self.folder}/data"]


# One request at a time: otherwise moto lets two writers through one condition now and then.
_MOTO = """\
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

def answer(environ, start_response):
    with turn:
        return moto(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
"""


class Moto(_Private):
    def command(self) -> list[str]:
        return [sys.executable, "-c", _MOTO, str(self.port)]


@contextmanager
def real() -> Iterator[Store]:
    """Yield a server that is no emulation, with the bucket ``BUCKET``."""
    met.note("S3Storage", describe())
    if GIVEN:
        place = urlsplit(GIVEN)
        store = Store(f"{place.scheme}://{place.netloc.rpartition('@')[2]}", place.username or "", place.password or "")
        _make_bucket(store)
        yield store
    else:
        with _running(Versity) as store:
            yield store


@contextmanager
def emulated() -> Iterator[Store]:
    """Yield an emulation, with the bucket ``BUCKET``: it proves nothing about races or durability."""
    met.note("S3Storage", describe_emulation())
    with _running(Moto) as store:
        yield store


@contextmanager
def _running(kind: type[Server]) -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="flowstore-") as folder:
        server = kind(Path(folder), {"env": {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": PASSWORD}})
        server.create()
        try:
            server.start()
            store = Store(f"http://127.0.0.1:{server.port}", server=server)
            _make_bucket(store)
            yield store
        finally:
            server.stop()


def _make_bucket(store: Store) -> None:
    client = store.client()
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    client.close()
