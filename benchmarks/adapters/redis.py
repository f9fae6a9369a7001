"""RedisStorage next to redis-py with its pool: with the same indexes in one transaction, and with SET and GET alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
import redis as driver

from benchmarks.adapters.contenders import (
    CELERY,
    FLOW,
    KIND,
    OURS,
    RAW,
    TASK,
    CelerysOwn,
    Contender,
    Ours,
    Subject,
    closing,
)
from tests.servers import redis

MISSING = None if redis.GIVEN or redis.PROGRAM else redis.MISSING
PLAIN: Final = "SET, GET"


class _Plain(Contender):
    """A string for each value, no index."""

    def __init__(self, url: str) -> None:
        self._client: Any = driver.Redis.from_url(url)

    def store(self, task_id: str, value: Any) -> None:
        self._client.set(f"plain:{task_id}", orjson.dumps(value))

    def retrieve(self, task_id: str) -> Any:
        return orjson.loads(self._client.get(f"plain:{task_id}"))

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        self._client.mset({f"plain:{task_id}": orjson.dumps(value) for task_id, value in items})

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        return [orjson.loads(payload) for payload in self._client.mget([f"plain:{task_id}" for task_id in task_ids])]

    def close(self) -> None:
        self._client.close()


class _Indexed(_Plain):
    """A hash for each value, found by kind, flow and task in sorted sets."""

    def store(self, task_id: str, value: Any) -> None:
        self.store_many([(task_id, value)])

    def retrieve(self, task_id: str) -> Any:
        return orjson.loads(self._client.hget(f"raw:{task_id}", "payload"))

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        with self._client.pipeline(transaction=len(items) == 1) as pipeline:
            for number, (task_id, value) in enumerate(items):
                pipeline.hset(f"raw:{task_id}", items=[b"flow", FLOW, b"task", TASK, b"payload", orjson.dumps(value)])
                pipeline.zadd(f"raw:kind:{KIND}", {task_id: number})
                pipeline.zadd(f"raw:flow:{KIND}:{FLOW}", {task_id: number})
                pipeline.zadd(f"raw:task:{task_id}", {task_id: number})
            pipeline.execute()

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for task_id in task_ids:
                pipeline.hget(f"raw:{task_id}", "payload")
            return [orjson.loads(payload) for payload in pipeline.execute()]


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    with redis.url() as url:
        contenders = {
            OURS: Ours("RedisStorage", {"url": url}),
            RAW: _Indexed(url),
            PLAIN: _Plain(url),
            CELERY: CelerysOwn(url),
        }
        notes = [f"{PLAIN!r} is redis-py without indexes, headers and revisions: a floor, not the same work."]
        with closing(Subject("redis", str(redis.describe()), contenders, notes)) as made:
            yield made
