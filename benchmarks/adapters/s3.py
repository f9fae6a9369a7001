"""S3Storage next to a boto3 client that writes the same objects: the record's, and the marker that lists it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import orjson

from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, Subject, closing
from tests.servers import s3

MISSING = None if s3.GIVEN or s3.find() or s3.find_emulation() else s3.MISSING
_THREADS: Final = 16


class _Boto(Contender):
    def __init__(self, store: s3.Store) -> None:
        self._client = store.client()
        self._pool = ThreadPoolExecutor(_THREADS)

    def store(self, task_id: str, value: Any) -> None:
        put = self._client.put_object
        put(Bucket=s3.BUCKET, Key=f"raw/index/{task_id}", Body=b"", ContentType="text/plain")
        put(Bucket=s3.BUCKET, Key=f"raw/{task_id}", Body=orjson.dumps(value), ContentType="application/json")

    def retrieve(self, task_id: str) -> Any:
        answer = self._client.get_object(Bucket=s3.BUCKET, Key=f"raw/{task_id}")
        return orjson.loads(answer["Body"].read())

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        list(self._pool.map(lambda item: self.store(*item), items))

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        return list(self._pool.map(self.retrieve, task_ids))

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    is_real = bool(s3.GIVEN or s3.find())
    with s3.real() if is_real else s3.emulated() as store:
        celery = CelerysOwn(
            "s3://",
            s3_access_key_id=store.key,
            s3_secret_access_key=store.secret,
            s3_bucket=s3.BUCKET,
            s3_base_path="celery/",
            s3_endpoint_url=store.url,
            s3_region="us-east-1",
        )
        contenders = {
            OURS: Ours("S3Storage", {**store.configuration, "prefix": "ours/"}),
            RAW: _Boto(store),
            CELERY: celery,
        }
        notes = ["Celery writes one object without a marker, and asks for its head before it reads."]
        server = str(s3.describe() if is_real else s3.describe_emulation())
        with closing(Subject("s3", server, contenders, notes)) as made:
            yield made
