"""A look at a server's settings: what may lose records without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from redis.exceptions import ResponseError

from flowstore.errors import UnsupportedError

from .link import Link

_OLDEST: Final = (5, 0)
_ASKED: Final = (b"appendonly", b"appendfsync", b"save")
UNKNOWN: Final = "unknown"


def look(link: Link) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return what the servers tell of themselves, by server, and what is unsafe about it.

    A server that keeps its configuration to itself, as managed ones do, is no failure: what it doesn't tell is
    ``unknown``.

    Raises:
        UnsupportedError: a server is too old.
    """
    servers: dict[str, dict[str, str]] = {}
    warnings: list[str] = []
    for place, answer in link.everywhere((b"INFO",)):
        info = _info(answer)
        facts = {
            name: info.get(name, UNKNOWN)
            for name in ("redis_version", "valkey_version", "redis_mode", "role", "maxmemory", "maxmemory_policy")
            if name != "valkey_version" or name in info
        }
        facts["appendonly"] = {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""), UNKNOWN)
        servers[str(place)] = facts
        check_version(facts["redis_version"], str(place))
    for name in _ASKED:
        for place, answer in link.everywhere((b"CONFIG", b"GET", name)):
            told = _pairs(answer)
            facts = servers[str(place)]
            facts[name.decode()] = told.get(name.decode(), facts.get(name.decode(), UNKNOWN))
    for server, facts in servers.items():
        warnings += [f"{server}: {warning}" for warning in unsafe(facts)]
    return servers, warnings


def unsafe(facts: Mapping[str, str]) -> list[str]:
    """Tell what may lose records in a server with such settings."""
    found = []
    policy = facts["maxmemory_policy"]
    if policy.startswith("allkeys-") and facts["maxmemory"] != "0":
        found.append(
            f"maxmemory_policy is {policy}: when the memory is full, records are dropped without a word; "
            "set it to noeviction, or to one of volatile-*, which spare keys without a time to live"
        )
    if facts["appendonly"] == "no" and facts["save"] == "":
        found.append("appendonly and save are off: a restart loses everything; set appendonly yes")
    return found


def check_version(version: str, server: str) -> None:
    """Refuse a server that is too old; let one pass that does not tell.

    Raises:
        UnsupportedError: it is.
    """
    parts = version.split(".")[:2]
    if all(part.isdecimal() for part in parts) and tuple(map(int, parts)) < _OLDEST:
        raise UnsupportedError(f"{server} has version {version}; {'.'.join(map(str, _OLDEST))} or newer is needed")


def _info(answer: object) -> dict[str, str]:
    if not isinstance(answer, bytes):
        _let_pass(answer)
        return {}
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, found, value in lines if found}


def _pairs(answer: object) -> dict[str, str]:
    if not isinstance(answer, Sequence):
        _let_pass(answer)
        return {}
    texts = [part.decode(errors="replace") for part in answer if isinstance(part, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _let_pass(answer: object) -> None:
    """Raise an error of the server, unless it says that this user may not ask."""
    if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
        raise answer
