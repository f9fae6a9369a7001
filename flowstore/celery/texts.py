"""What requests say, as text: names and ids of any type that Celery takes, arguments without what is hidden."""

from __future__ import annotations

from typing import Any, Final

from celery.utils.saferepr import saferepr

from flowstore.celery.header import header_of

_SHOWN: Final = 1024
"""Characters of arguments that Celery shows where their sender doesn't say otherwise."""

_BRACKETS: Final = str.maketrans("()", "[]")


def text(value: object) -> str:
    """Return a name or an id as the text under which it is stored: a UUID as its digits, ``None`` as nothing."""
    if type(value) is str and value.isascii():
        return value
    if value is None:
        return ""
    found = str.__str__(value) if isinstance(value, str) else str(value)
    # A lone surrogate, which no database can keep.
    return found.encode("utf-8", "backslashreplace").decode()


def name_in(request: Any) -> str | None:
    """Return the name of a request's task, if it tells one."""
    found = getattr(request, "task", None) or getattr(request, "name", None)
    found = getattr(found, "name", found)
    return found if isinstance(found, str) and found else None


def arguments_of(request: Any) -> dict[str, Any]:
    """Return the arguments of a task; what its sender hides with ``argsrepr`` or ``kwargsrepr`` as that text."""
    hidden = header_of(request).get("hidden")
    if hidden is not None:
        return {"args": hidden[0], "kwargs": hidden[1]}
    return {"args": _shown(request, "args"), "kwargs": _shown(request, "kwargs")}


def hidden_in(request: Any) -> list[str] | None:
    """Return what stands for the arguments of a task whose sender hides them, or ``None``.

    Celery forgets it where it sends the task again.
    """
    hidden = header_of(request).get("hidden")
    if hidden is not None:
        return hidden
    shown = [_shown(request, "args"), _shown(request, "kwargs")]
    if shown[0] is getattr(request, "args", None) and shown[1] is getattr(request, "kwargs", None):
        return None
    return [one[:_SHOWN] if isinstance(one, str) else saferepr(one, _SHOWN) for one in shown]


def _shown(request: Any, name: str) -> Any:
    """Return arguments, or the text that their sender gives for them if it isn't just how Celery shows them."""
    value, said = getattr(request, name, None), getattr(request, f"{name}repr", None)
    if not isinstance(said, str) or not said or _alike(saferepr(value, _SHOWN)) == _alike(said):
        return value
    return said


def _alike(shown: str) -> str:
    """A tuple becomes a list on its way, which hides nothing."""
    return shown.translate(_BRACKETS).replace(",]", "]")
