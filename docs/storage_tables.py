"""Tables of the storages' pages, made from the adapters themselves.

``{storage-guarantees} Adapter …`` compares what the adapters' databases promise, ``{storage-capabilities} Adapter …``
what the adapters can do beyond the contract. ``{storage-arguments} Adapter`` lists the keys of ``configuration``.
Without names, the first two take all adapters.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import flowstore.storages
from flowstore.storage import DataStorage, Guarantees
from flowstore.storage.capabilities import CAPABILITIES, capabilities_of

_QUESTIONS = {
    "shared_by": "the same records are seen by",
    "process_ends": "kept when the process ends or is killed",
    "server_crashes": "kept when the server is killed",
    "power_fails": "kept when the power fails",
    "one_winner": "of several at once, one wins",
    "clock": "the clock for expiry",
    "largest_record": "the largest payload of a record",
}
_SHARED = {
    "threads": "the threads of one process",
    "processes": "the processes of one machine",
    "machines": "all machines that reach the server",
}


def adapters(names: Iterable[str]) -> list[type[DataStorage]]:
    """Return adapters by their names; all of them for none."""
    return [getattr(flowstore.storages, name) for name in list(names) or flowstore.storages.__all__]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def guarantees(names: Sequence[str]) -> list[str]:
    """Return what databases promise, a column for each.

    Raises:
        ValueError: an adapter has no guarantees.
    """
    columns: list[tuple[type[DataStorage], Guarantees]] = []
    for adapter in adapters(names):
        if not adapter.guarantees:
            raise ValueError(f"{adapter.__name__} has no guarantees")
        columns += [(adapter, one) for one in adapter.guarantees]
    several = len({adapter for adapter, _ in columns}) > 1
    head = [f"`{adapter.__name__}`: {one.database}" if several else one.database for adapter, one in columns]
    rows = []
    for field, question in _QUESTIONS.items():
        answers = [getattr(one, field) for _, one in columns]
        rows.append([question, *(_SHARED[answer] if field == "shared_by" else answer for answer in answers)])
    thresholds = [_threshold(adapter) for adapter, _ in columns]
    return table(["", *head], [*rows, ["default `blob_threshold`: larger values are stored out of line", *thresholds]])


def _threshold(adapter: type[DataStorage]) -> str:
    found = getattr(adapter, "blob_threshold", None)
    return "none" if found is None else f"{found >> 20} MiB" if found % (1 << 20) == 0 else f"{found} bytes"


def capabilities(names: Sequence[str]) -> list[str]:
    """Return which adapter declares which capability."""
    chosen = adapters(names)
    rows = []
    for capability in CAPABILITIES:
        summary = (inspect.getdoc(capability) or "").partition("\n")[0].rstrip(".")
        described = f"`{capability.__name__}`: {summary[:1].lower()}{summary[1:]}"
        rows.append([described, *("yes" if capability in capabilities_of(adapter) else "no" for adapter in chosen)])
    return table(["capability", *(f"`{adapter.__name__}`" for adapter in chosen)], rows)


def arguments(name: str) -> list[str]:
    """Return the keys of an adapter's ``configuration``, from its constructor and its docstring.

    Raises:
        ValueError: a key is not described, or a described key does not exist.
    """
    (adapter,) = adapters([name])
    parameters = dict(inspect.signature(adapter).parameters)
    described = dict(_described(inspect.getdoc(adapter) or ""))
    if parameters.keys() != described.keys():
        raise ValueError(f"{name} takes {sorted(parameters)}, and describes {sorted(described)}")
    if not parameters:
        return ["It takes no configuration."]
    rows = [[f"`{key}`", described[key].rstrip("."), _default(parameter)] for key, parameter in parameters.items()]
    return table(["key", "meaning", "default"], rows)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    default = parameter.default
    if default is None or default == ():
        return ""
    return f"`{json.dumps(default)}`" if isinstance(default, bool) else f"`{default}`"


def _described(docstring: str) -> Iterable[tuple[str, str]]:
    """Yield each argument that a docstring describes, with the description."""
    section = re.search(r"^Args:\n((?:(?:    .*)?\n?)*)", docstring, re.MULTILINE)
    for entry in re.split(r"\n(?=    \S)", section[1].rstrip() if section else ""):
        names, _, text = entry.strip().partition(":")
        for name in filter(None, names.split(", ")):
            yield name, " ".join(text.split())


class _Table(SphinxDirective):
    optional_arguments = 100

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        try:
            lines = self.lines()
        except ValueError as exc:
            raise self.error(str(exc)) from exc
        found = nodes.Element()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), 0, found)
        return found.children


class GuaranteesTable(_Table):
    """What databases promise."""

    def lines(self) -> list[str]:
        return guarantees(self.arguments)


class CapabilitiesTable(_Table):
    """What adapters can do."""

    def lines(self) -> list[str]:
        return capabilities(self.arguments)


class ArgumentsTable(_Table):
    """What an adapter's configuration may hold."""

    required_arguments = 1
    optional_arguments = 0

    def lines(self) -> list[str]:
        return arguments(self.arguments[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the directives; Sphinx calls it."""
    app.add_directive("storage-guarantees", GuaranteesTable)
    app.add_directive("storage-capabilities", CapabilitiesTable)
    app.add_directive("storage-arguments", ArgumentsTable)
    return {"parallel_read_safe": True}
