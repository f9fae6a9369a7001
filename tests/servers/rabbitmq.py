"""A RabbitMQ server for tests: a private node with a port mapper of its own, or the one at a given address."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kombu.connection import Connection

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import free_port, unprivileged

GIVEN = os.environ.get("FLOWSTORE_TEST_RABBITMQ_URL")
# The one on the PATH of Debian's package changes the user and reads the machine's configuration.
PROGRAM = next(filter(os.path.exists, ["/usr/lib/rabbitmq/bin/rabbitmq-server"]), None) or shutil.which(
    "rabbitmq-server"
)
MAPPER = shutil.which("epmd")
MISSING = "no RabbitMQ: install it (apt-get install rabbitmq-server), or set FLOWSTORE_TEST_RABBITMQ_URL"


def answers(url: str) -> bool:
    """Tell whether a broker takes a connection."""
    try:
        with Connection(url, connect_timeout=5) as connection:
            connection.connect()
    except OSError:
        return False
    return True


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a broker; a private one is ended afterwards."""
    if GIVEN:
        if not answers(GIVEN):
            raise RuntimeError("no broker answers at the address in FLOWSTORE_TEST_RABBITMQ_URL")
        met.note("Celery", Found("RabbitMQ", "real", "", "the address in FLOWSTORE_TEST_RABBITMQ_URL"))
        yield GIVEN
        return
    if PROGRAM is None or MAPPER is None:
        met.skip("Celery", MISSING)
    with tempfile.TemporaryDirectory(prefix="flowstore-rabbitmq-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        identity = unprivileged(("rabbitmq",))
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        port, mapper_port = free_port(), free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": name,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": f"flowstore-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{name}/data",
            "RABBITMQ_LOG_BASE": f"{name}/log",
            "RABBITMQ_CONFIG_FILE": f"{name}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{name}/environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{name}/plugins",
            "RABBITMQ_PID_FILE": f"{name}/pid",
        }
        # A node starts a mapper that nobody would end, unless there is one.
        mapper = subprocess.Popen([MAPPER, "-port", str(mapper_port), "-address", "127.0.0.1"], **identity)
        with (folder / "output").open("wb") as output:
            node = subprocess.Popen([PROGRAM], env=environment, stdout=output, stderr=output, cwd=name, **identity)
        try:
            url = f"amqp://guest:guest@127.0.0.1:{port}//"
            deadline = time.monotonic() + 120
            while not answers(url):
                if node.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"RabbitMQ does not answer:\n{(folder / 'output').read_text()[-3000:]}")
                time.sleep(0.1)
            with Connection(url) as connection:
                version = connection.connection.server_properties["version"]
            met.note("Celery", Found("RabbitMQ", "real", version, f"the program {PROGRAM}"))
            yield url
        finally:
            for process in (node, mapper):
                process.terminate()
                process.wait()
