"""Exceptions of S3's driver, translated."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as BrokenConnectionError,
)

from flowstore.errors import OutcomeUnknownError, StorageError, UnreachableError, UnsupportedError

_CONDITION_FAILED: Final = (409, 412)
_REFUSED: Final = (429, 503)
_PASSING: Final = (429, 500, 502, 503, 504)
_NOT_SENT: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_NO_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


def translate(exc: ClientError | BotoCoreError, where: str, mutates: bool) -> StorageError | None:
    """Return flowstore's error for a driver's exception, or None for a bug."""
    lost = OutcomeUnknownError if mutates else UnreachableError
    if isinstance(exc, ClientError):
        status, code = _status(exc), code_of(exc)
        if code == "NoSuchBucket":
            return StorageError(f"{where} does not exist")
        if status in _REFUSED:
            return UnreachableError(f"{where} is too busy ({code})")
        if code == "EntityTooLarge":
            return UnsupportedError(f"{where} can't store that many bytes at once")
        if status >= 500:
            return lost(f"{where} failed ({code}, {status})")
        if status in (401, 403):
            return StorageError(f"{where} refuses the credentials or what they may do ({code})")
        return StorageError(f"{where} refuses the request ({code}, {status})")
    name = type(exc).__name__
    if isinstance(exc, _NO_CREDENTIALS):
        return StorageError(f"there are no credentials for {where} ({name})")
    if isinstance(exc, _NOT_SENT):
        return UnreachableError(f"can't connect to {where} ({name})")
    if isinstance(exc, BrokenConnectionError | HTTPClientError | IncompleteReadError | ResponseStreamingError):
        return lost(f"the connection to {where} broke ({name})")
    return None


def is_passing(exc: BaseException) -> bool:
    """Return whether the server failed in a way that passes.

    S3 answers so now and then, and so do stores on a file system while an object is being replaced or deleted
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ErrorBestPractices.html).
    """
    cause = exc.__cause__
    return isinstance(cause, ClientError) and _status(cause) in _PASSING


def _status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(exc: BaseException | None) -> str:
    """Return the server's error code; empty if the server did not answer."""
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def failed_condition(exc: BaseException | None) -> bool:
    """Return whether a request was refused because of its condition."""
    # 404: the object is gone. 409: another conditional request is running.
    return isinstance(exc, ClientError) and (_status(exc) in _CONDITION_FAILED or code_of(exc) == "NoSuchKey")
