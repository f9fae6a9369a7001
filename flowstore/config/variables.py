"""Variables in the values of a configuration.

``{VAR}`` and ``${VAR}`` stand for an environment variable. Where it is unset or empty, ``${VAR:-default}`` uses the
default and ``${VAR:?message}`` is a mistake. ``$$`` is a dollar, ``{{`` and ``}}`` are braces, and ``$${VAR}`` is the
text ``${VAR}``. The value of a variable is not expanded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from flowstore.config.document import NodeProblem
from flowstore.config.mistakes import did_you_mean

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
"""A name in ``{VAR}``; in ``${VAR}``, lower case is allowed too."""


@dataclass(slots=True)
class Expansion:
    """A text with its variables expanded.

    ``only_variables`` is whether it consisted of variables alone.
    """

    text: str
    only_variables: bool = False
    problems: list[NodeProblem] = field(default_factory=list)


def expand(text: str, environ: Mapping[str, str]) -> Expansion:
    """Replace the variables in a text by their values.

    One that can't be replaced stays as it is and adds a problem.
    """
    problems: list[NodeProblem] = []
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
    """Return a text without its variables, but with their defaults."""
    return _TOKEN.sub(lambda token: (token["operand"] or "") if token["operator"] == "-" else "", text)


def _escape(token: re.Match[str], problems: list[NodeProblem]) -> str:
    if token["brace"]:
        return token["brace"][0]
    if token["broken"]:
        problems.append(
            NodeProblem(
                "'${' does not begin a variable here",
                "Write ${VAR}, ${VAR:-default} or ${VAR:?message} (without braces inside), or $$ for a dollar.",
            )
        )
        return token[0]
    return "$" + (token["verbatim"] or "")


def _variable(token: re.Match[str], name: str, environ: Mapping[str, str], problems: list[NodeProblem]) -> str:
    value = environ.get(name)
    operator = token["operator"]
    if operator and not value:
        if operator == "-":
            return token["operand"]
        problems.append(NodeProblem(f"the variable {name} is not set: {token['operand'] or 'it is required'}"))
        return token[0]
    if value is None:
        meant = did_you_mean(name, environ) or ""
        hint = meant if meant.startswith("Did") else f"Set it, or give a default: ${{{name}:-...}}."
        problems.append(NodeProblem(f"the variable {name} is not set", hint))
        return token[0]
    return value
