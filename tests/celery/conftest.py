from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.celery.app.flowapp import default_settings
from tests.celery.sites import Site
from tests.servers import rabbitmq
from tests.servers import redis as servers

MakeSite = Callable[..., Site]


@contextlib.contextmanager
def _sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    made: list[Site] = []

    def make(
        celery: dict[str, Any] | None = None,
        configuration: Callable[[Path], dict[str, Any]] = lambda _: {},
        environ: dict[str, str] | None = None,
        **urls: str,
    ) -> Site:
        folder = tmp_path_factory.mktemp("site")
        settings = default_settings(folder, **configuration(folder))
        site = Site(folder, {**settings, **urls, "celery": celery or {}}, environ)
        made.append(site)
        return site

    try:
        yield make
    finally:
        for site in made:
            site.close()


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    with _sites(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without any server, with one prefork worker that all tests share."""
    with _sites(tmp_path_factory) as make:
        site = make()
        site.start_worker("prefork", 2, "--queues", "celery,other")
        yield site


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of the tests' own, or the empty one that the environment names: a URL without a database."""
    if servers.GIVEN:
        given = servers.GIVEN.rstrip("/")
        with contextlib.closing(redis.Redis.from_url(given)) as client:
            assert not client.info("keyspace"), "FLOWSTORE_TEST_REDIS_URL names a server that is not empty"
        yield given
        return
    if servers.PROGRAM is None:
        pytest.skip(servers.MISSING)
    with servers.running({"save": '""'}) as server:
        yield f"redis://127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def redis_site(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Site]:
    with _sites(tmp_path_factory) as make:
        site = make(broker=f"{redis_url}/0", backend=f"{redis_url}/1")
        site.start_worker("prefork", 2, "--queues", "celery,other")
        yield site


@pytest.fixture(scope="session")
def rabbitmq_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with rabbitmq.running() as url, _sites(tmp_path_factory) as make:
        site = make(broker=url)
        site.start_worker("prefork", 2, "--queues", "celery,other")
        yield site


@pytest.fixture(scope="session", params=["folder", "redis", "rabbitmq"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """The shared site without a server, one with Redis as broker and result backend, and one with RabbitMQ."""
    sites = {"folder": "site", "redis": "redis_site", "rabbitmq": "rabbitmq_site"}
    site: Site = request.getfixturevalue(sites[request.param])
    return site
