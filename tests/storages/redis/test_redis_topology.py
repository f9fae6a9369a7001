"""Where a Redis is: arguments and URLs, databases and prefixes next to each other, a socket, and TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore
from flowstore.errors import ConfigurationError, NotFoundError, UnreachableError
from flowstore.record import Key, Query
from flowstore.storages import RedisStorage
from tests.servers import met
from tests.servers import redis as servers
from tests.servers.process import free_port
from tests.storages.redis.redis_kit import connected, fresh_prefix, need_program
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.redis.redis_fixtures",)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"charset": "latin-1"}, "charset"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a{b}"}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"connect_timeout": float("nan")}, "connect_timeout"),
        ({"db": -1}, "db"),
        ({"unsafe_settings": "x"}, "unsafe_settings"),
        ({"ssl_cert_reqs": "x"}, "ssl_cert_reqs"),
    ],
)
def test_refuses_other_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisStorage(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "http://u:hunter2@h/0"}, "'http' is not supported"),
        ({"url": "redis://u:hunter2@h:99999/0"}, "port"),
        ({"url": "redis://u:hunter2@h/mine"}, "number of a database"),
        ({"url": "redis://u:hunter2@h/0", "host": "other"}, "url and host and port name different places"),
        ({"url": "redis://u:hunter2@h/0", "unix_socket_path": "/x"}, "different places"),
        ({"url": "unix:///x", "cluster": True}, "cluster"),
        ({"sentinels": ["h"]}, "service_name"),
        ({"service_name": "mine"}, "sentinels"),
        ({"sentinels": ["u:hunter2@h"], "service_name": "mine"}, "host:port"),
        ({"sentinels": ["h:x"], "service_name": "mine"}, "host:port"),
        ({"sentinels": ["h"], "service_name": "mine", "cluster": True}, "cluster"),
        ({"cluster": True, "db": 1}, "prefix instead of db"),
    ],
)
def test_refuses_contradictions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        RedisStorage(**arguments)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rediss://h?ssl_cert_reqs=bogus", "required, optional or none, not 'bogus'"),
        ("redis://h?ssl_cert_reqs=none", "rediss://"),
        ("rediss://h?ssl_version=3", "ssl_version can't be given"),
        ("redis://h?timeout=1", "timeout can't be given"),
    ],
)
def test_options_of_a_url_are_checked_before_anything_connects(url: str, message: str) -> None:
    entry = {"name": "S", "classname": "RedisStorage", "configuration": {"url": url}}
    with pytest.raises(ConfigurationError, match=rf"configuration\.url: .*{message}"):
        FlowStore({"storages": [entry], "global": {"default_storage": "S"}})


@pytest.mark.parametrize("option", ["decode_responses=true", "protocol=3", "retry_on_timeout=yes", "parser_class=x"])
def test_a_url_carries_no_options_of_the_driver(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        RedisStorage(url=f"redis://127.0.0.1/0?{option}").connect()


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8"])
def test_takes_the_charset_that_it_has(charset: str) -> None:
    RedisStorage("localhost", 6379, 0, None, None, charset)


# One server


def test_databases_and_prefixes_are_apart(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storages = [
        connected(port=server.port, db=db, prefix=name) for db in (0, 1, 2) for name in (prefix, f"{prefix}:x", "other")
    ]
    with server.client() as client:
        client.set("somebody", "else's")
    for number, storage in enumerate(storages):
        storage.put(record(Key("f", "t", "1"), number, run_id="r"))
        storage.put(record(Key("f", "t", str(number)), number, run_id="r"))
    for number, storage in enumerate(storages):
        expected = 1 if number == 1 else 2
        assert storage.retrieve("f", "t", "1") == number
        assert storage.count(Query(run_id="r")) == expected
    for storage in storages[1:]:
        storage.delete_many([one.ref for one in storage.records(Query())])
        assert storage.count(Query()) == 0
    assert storages[0].count(Query()) == 2
    with server.client() as client:
        assert client.get("somebody") == b"else's"
    for storage in storages:
        storage.disconnect()


def test_connecting_creates_nothing(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storage = connected(port=server.port, prefix=prefix)
    with pytest.raises(NotFoundError):
        storage.retrieve("f", "t", "1")
    assert list(storage.records(Query())) == []
    with server.client() as client:
        assert client.keys(f"{prefix}*") == []
    storage.disconnect()


def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_program()
    path = tmp_path_factory.mktemp("s") / "s"
    with servers.running({**servers.SAFE, "unixsocket": str(path)}) as server:
        by_path = connected(unix_socket_path=str(path), db=3)
        by_url = connected(url=f"unix://{path}?db=3")
        by_path.store("f", "t", "1", 1)
        assert by_url.retrieve("f", "t", "1") == 1
        server.kill()
        with pytest.raises(UnreachableError, match=str(path)):
            by_url.retrieve("f", "t", "1")
        by_path.disconnect()
        by_url.disconnect()


def test_tls(tmp_path: Path) -> None:
    need_program()
    tried = subprocess.run([servers.PROGRAM or "", "--tls-port", "x"], capture_output=True, text=True)
    if "Bad directive" in tried.stderr + tried.stdout:
        met.skip("RedisStorage", "no Redis with TLS: the server's program was built without it")
    certificate(tmp_path)
    port = free_port()
    settings = {
        **servers.SAFE,
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "cert"),
        "tls-key-file": str(tmp_path / "key"),
        "tls-ca-cert-file": str(tmp_path / "cert"),
        "tls-auth-clients": "optional",
    }
    with servers.running(settings):
        trusted = {"ssl_ca_certs": str(tmp_path / "cert")}
        storage = connected(host="127.0.0.1", port=port, ssl=True, **trusted)
        by_url = connected(url=f"rediss://127.0.0.1:{port}/0", **trusted)
        for number in range(20):
            storage.store("f", "t", str(number), "x" * 100_000)
            assert by_url.retrieve("f", "t", str(number)) == "x" * 100_000
        [held] = storage._connection()._all  # one: held, and not made anew for each call
        assert "SSL" in type(held.connection._sock).__name__
        with pytest.raises(UnreachableError, match=r"(?i)certificate"):
            connected(host="127.0.0.1", port=port, ssl=True)
        unchecked = connected(host="127.0.0.1", port=port, ssl=True, ssl_cert_reqs="none")
        # As Celery writes it in its own URLs.
        celery_s = [
            connected(url=f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs={name}") for name in ("CERT_NONE", "none")
        ]
        with pytest.raises(UnreachableError, match=r"(?i)certificate"):
            connected(url=f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=CERT_REQUIRED")
        for one in (storage, by_url, unchecked, *celery_s):
            one.disconnect()


def certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "cert")),
        ],
        check=True,
        capture_output=True,
    )
