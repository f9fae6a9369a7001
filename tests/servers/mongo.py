"""Servers that speak MongoDB's protocol, for tests: mongod, and others that know a part of what it does."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import Server

GIVEN = os.environ.get("FLOWSTORE_TEST_MONGO_URL")

_JAVA_SERVER = "1.47.0"
_PROJECT = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>flowstore</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>de.bwaldvogel</groupId><artifactId>mongo-java-server</artifactId><version>{_JAVA_SERVER}</version>
    </dependency>
  </dependencies>
</project>
"""
# It can do what the driver needs, but calls itself an older version than the driver accepts.
_LAUNCHER = """\
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

public class Launcher {
    public static void main(String[] arguments) throws Exception {
        MongoVersion version = new MongoVersion() {
            public List<Integer> getVersionArray() { return List.of(4, 4, 0); }
            public int getWireVersion() { return 9; }
        };
        new MongoServer(new MemoryBackend().version(version)).bind("127.0.0.1", Integer.parseInt(arguments[0]));
        Thread.sleep(Long.MAX_VALUE);
    }
}
"""


class _Private(Server):
    def create(self) -> None:
        (self.folder / "data").mkdir()

    def answers(self) -> bool:
        client: MongoClient[dict[str, object]] = MongoClient(
            "127.0.0.1", self.port, serverSelectionTimeoutMS=1000, directConnection=True
        )
        with client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
            return True

    def stop(self) -> None:
        # Some wait for their clients before they end.
        if self.process is not None and self.process.poll() is None:
            self.kill()


class Mongod(_Private):
    def command(self) -> list[str]:
        program = shutil.which("mongod")
        assert program is not None
        return [program, "--bind_ip", "127.0.0.1", "--port", str(self.port), "--dbpath", f"{self.folder}/data"]


class Ferret(_Private):
    def command(self) -> list[str]:
        program = _ferretdb()
        assert program is not None
        return [
            program,
            "--handler=sqlite",
            f"--sqlite-url=file:{self.folder}/data/",
            f"--state-dir={self.folder}",
            f"--listen-addr=127.0.0.1:{self.port}",
            "--debug-addr=-",
            "--telemetry=disable",
            "--log-level=error",
        ]


class JavaServer(_Private):
    def create(self) -> None:
        super().create()
        (self.folder / "Launcher.java").write_text(_LAUNCHER)

    def command(self) -> list[str]:
        path = _java_path(self.folder)
        assert path is not None
        return ["java", "-cp", path, str(self.folder / "Launcher.java"), str(self.port)]


class Nx(_Private):
    def command(self) -> list[str]:
        files = [f"--log-file={self.folder}/nx.log", f"--pid-file={self.folder}/nx.pid"]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", f"{self.folder}/data"]
        return [str(Path(sys.executable).with_name("nx-27017")), *place, *files]


def _ferretdb() -> str | None:
    return shutil.which("ferretdb") or shutil.which("ferretdb", path=str(Path.home() / "go" / "bin"))


def _java_path(folder: Path) -> str | None:
    """Return the class path of mongo-java-server, as far as Maven has it already."""
    if not (shutil.which("java") and shutil.which("mvn")):
        return None
    project, answer = folder / "pom.xml", folder / "path"
    project.write_text(_PROJECT)
    arguments = ["-q", "-o", "-B", "-f", str(project), "dependency:build-classpath", f"-Dmdep.outputFile={answer}"]
    done = subprocess.run(["mvn", *arguments], capture_output=True)
    return answer.read_text() if done.returncode == 0 else None


@cache
def _has_java_server() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _java_path(Path(folder)) is not None


def _has_nx() -> bool:
    return importlib.util.find_spec("nx_27017") is not None


@dataclass(frozen=True)
class Place:
    """How a server is reached, and its handle if it is a private one."""

    uri: str
    server: Server | None = None

    def begin(self) -> None:
        """Make it unreachable."""
        assert self.server is not None
        self.server.kill()

    def end(self) -> None:
        """Make it reachable again."""
        assert self.server is not None
        self.server.start()


def missing(kind: type[Server]) -> str | None:
    """Tell how to get a server, or ``None`` where it is there."""
    if kind is Mongod and not GIVEN and shutil.which("mongod") is None:
        return "no MongoDB server: put mongod on the PATH, or set FLOWSTORE_TEST_MONGO_URL to its URI"
    if kind is Ferret and _ferretdb() is None:
        return "no FerretDB: build version 1.24 (github.com/FerretDB/FerretDB) and put ferretdb on the PATH"
    if kind is JavaServer and not _has_java_server():
        wanted = f"de.bwaldvogel:mongo-java-server:{_JAVA_SERVER}"
        return f"no mongo-java-server: install Java and Maven, then mvn dependency:get -Dartifact={wanted}"
    if kind is Nx and not _has_nx():
        return "no nx-27017: pip install nx-27017"
    return None


def describe(kind: type[Server]) -> Found:
    """Tell what the tests meet."""
    if kind is Mongod and GIVEN:
        client: MongoClient[dict[str, object]] = MongoClient(GIVEN)
        with client:
            told = str(client.server_info()["version"])
        return Found("MongoDB", "real", told, "the address in FLOWSTORE_TEST_MONGO_URL")
    if kind is Mongod:
        program = str(shutil.which("mongod"))
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return Found("MongoDB", "real", told.split()[2], f"the program {program}")
    if kind is Ferret:
        told = subprocess.run([str(_ferretdb()), "--version"], capture_output=True, text=True, check=True).stdout
        return Found("FerretDB over SQLite", "independent", told.split()[1], f"the program {_ferretdb()}")
    if kind is JavaServer:
        return Found("mongo-java-server, in memory", "independent", _JAVA_SERVER, "the package that Maven has")
    return Found("nx-27017", "emulated", version("nx-27017"), "the package from PyPI")


@contextmanager
def running(kind: type[Server]) -> Iterator[Place]:
    """Yield a server of that kind."""
    met.note("MongoStorage", describe(kind))
    if kind is Mongod and GIVEN:
        yield Place(GIVEN)
        return
    with tempfile.TemporaryDirectory(prefix="flowstore-") as folder:
        server = kind(Path(folder), {})
        server.create()
        try:
            server.start()
            yield Place(f"mongodb://127.0.0.1:{server.port}", server)
        finally:
            server.stop()
