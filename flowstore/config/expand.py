"""Variables inside the values of a configuration.

``{VAR}`` and ``${VAR}`` stand for an environment variable, ``${VAR:-default}`` for it or a default where it is unset or
empty, ``${VAR:?message}`` for it or a mistake. ``$$`` is a dollar, ``{{`` and ``}}`` are braces, and ``$${VAR}`` is
``${VAR}`` as it stands. What a variable holds is never looked at for further variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from flowstore.config.mistakes import did_you_mean
from flowstore.config.nodes import Problem

_TOKEN: Final = re.compile(
    r"""
      \$\$ (?P<verbatim>\{[^{}]*\})?
    | \$\{ (?P<shell>[A-Za-z_][A-Za-z0-9_]*) (?: : (?P<operator>[-?]) (?P<operand>[^{}]*) )? \}
    | (?P<broken>\$\{)
    | (?P<brace>\{\{|\}\})
    | \{ (?P<braced>[A-Z_][A-Z0-9_]*) \}
    """,
    re.VERBOSE,
)
VARIABLE_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
"""What stands between the braces of ``{VAR}``."""


@dataclass(slots=True)
class Expansion:
    """A text with its variables put in, and whether it held nothing but variables."""

    text: str
    only_variables: bool = False
    problems: list[Problem] = field(default_factory=list)


def expand(text: str, environ: Mapping[str, str]) -> Expansion:
    """Put the variables in, once.

    A variable that can't be put in leaves its own text and adds a problem.
    """
    problems: list[Problem] = []
    parts: list[str] = []
    end = 0
    literal = False
    for token in _TOKEN.finditer(text):
        literal |= token.start() > end
        parts.append(text[end : token.start()])
        end = token.end()
        name = token["shell"] or token["braced"]
        if name is None:
            literal = True
            parts.append(_escape(token, problems))
        else:
            parts.append(_variable(token, name, environ, problems))
    literal |= end < len(text)
    parts.append(text[end:])
    return Expansion("".join(parts), not literal and bool(text), problems)


def literal_parts(text: str) -> str:
    """Return what a text says by itself: the variables removed, their defaults kept."""
    return _TOKEN.sub(lambda token: (token["operand"] or "") if token["operator"] == "-" else "", text)


def _escape(token: re.Match[str], problems: list[Problem]) -> str:
    if token["brace"]:
        return token["brace"][0]
    if token["broken"]:
        problems.append(
            Problem(
                "'${' does not begin a variable here",
                "Write ${VAR}, ${VAR:-default} or ${VAR:?message} (without braces inside), or $$ for a dollar.",
            )
        )
        return token[0]
    return "$" + (token["verbatim"] or "")


def _variable(token: re.Match[str], name: str, environ: Mapping[str, str], problems: list[Problem]) -> str:
    value = environ.get(name)
    operator = token["operator"]
    if operator and not value:
        if operator == "-":
            return token["operand"]
        problems.append(Problem(f"the variable {name} is not set: {token['operand'] or 'it is required'}"))
        return token[0]
    if value is None:
        meant = did_you_mean(name, environ) or ""
        hint = meant if meant.startswith("Did") else f"Set it, or give a default: ${{{name}:-...}}."
        problems.append(Problem(f"the variable {name} is not set", hint))
        return token[0]
    return value
