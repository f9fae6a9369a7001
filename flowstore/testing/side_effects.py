"""Observe side effects of code: connections, files, processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_EVENTS: Final = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "sqlite3.connect",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "subprocess.Popen",
    }
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_watching = threading.local()
_installed = threading.Event()


@contextmanager
def side_effects() -> Iterator[list[str]]:
    """Yield a list to which this thread's side effects are added.

    Bytecode that imports write is ignored. A driver written in C is only seen by its open descriptors.
    """
    # An audit hook can't be removed, so it is installed once and ignores most events.
    if not _installed.is_set():
        _installed.set()
        sys.addaudithook(_record_event)
    actions: list[str] = []
    before = descriptors()
    _watching.actions = actions
    try:
        yield actions
    finally:
        del _watching.actions
        actions += [f"opened {target}" for target in sorted(set(descriptors()) - set(before))]


def descriptors() -> list[str]:
    """Return what this process has open; empty on systems without ``/proc``."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return []
    targets = []
    for number in numbers:
        try:
            targets.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the descriptor of the listing
    return targets


def _record_event(event: str, args: tuple[Any, ...]) -> None:
    actions: list[str] | None = getattr(_watching, "actions", None)
    if actions is None:
        return
    if event in _EVENTS:
        actions.append(f"{event}{args[:2]!r}")
    elif event == "open" and isinstance(args[2], int) and args[2] & _WRITES and "__pycache__" not in str(args[0]):
        actions.append(f"open for writing: {args[0]}")
