"""Server settings: the version, and what may silently lose records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from redis.exceptions import ResponseError

from flowstore.errors import UnsupportedError

from .connection import Connection

_OLDEST: Final = (5, 0)
_SETTINGS: Final = (b"appendonly", b"appendfsync", b"save")
UNKNOWN: Final = "unknown"


def read_settings(connection: Connection) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the settings of each server, and warnings about unsafe ones.

    Managed servers often hide their configuration: settings that can't be read are ``unknown``.

    Raises:
        UnsupportedError: a server is too old.
    """
    servers: dict[str, dict[str, str]] = {}
    warnings: list[str] = []
    for server, answer in connection.everywhere((b"INFO",)):
        info = _info(answer)
        facts = {
            name: info.get(name, UNKNOWN)
            for name in ("redis_version", "valkey_version", "redis_mode", "role", "maxmemory", "maxmemory_policy")
            if name != "valkey_version" or name in info
        }
        facts["appendonly"] = {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""), UNKNOWN)
        servers[str(server)] = facts
        check_version(facts["redis_version"], str(server))
    for setting in _SETTINGS:
        for server, answer in connection.everywhere((b"CONFIG", b"GET", setting)):
            pairs = _pairs(answer)
            facts = servers[str(server)]
            name = setting.decode()
            facts[name] = pairs.get(name, facts.get(name, UNKNOWN))
    for name, facts in servers.items():
        warnings += [f"{name}: {warning}" for warning in unsafe(facts)]
    return servers, warnings


def unsafe(facts: Mapping[str, str]) -> list[str]:
    """Return warnings about settings that may lose records."""
    found = []
    policy = facts["maxmemory_policy"]
    if policy.startswith("allkeys-") and facts["maxmemory"] != "0":
        found.append(
            f"maxmemory_policy is {policy}: when the memory is full, records are evicted silently; "
            "set it to noeviction, or to one of volatile-*, which spare keys without a time to live"
        )
    if facts["appendonly"] == "no" and facts["save"] == "":
        found.append("appendonly and save are off: a restart loses everything; set appendonly yes")
    return found


def check_version(version: str, server: str) -> None:
    """Raise UnsupportedError if a server's known version is too old."""
    parts = version.split(".")[:2]
    if all(part.isdecimal() for part in parts) and tuple(map(int, parts)) < _OLDEST:
        raise UnsupportedError(f"{server} has version {version}; {'.'.join(map(str, _OLDEST))} or newer is needed")


def _info(answer: object) -> dict[str, str]:
    if not isinstance(answer, bytes):
        _raise_unless_refused(answer)
        return {}
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, found, value in lines if found}


def _pairs(answer: object) -> dict[str, str]:
    if not isinstance(answer, Sequence):
        _raise_unless_refused(answer)
        return {}
    texts = [part.decode(errors="replace") for part in answer if isinstance(part, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _raise_unless_refused(answer: object) -> None:
    """Raise a server's error, unless it refuses the command to this user."""
    if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
        raise answer
