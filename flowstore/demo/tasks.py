"""The tasks of the survey, as plain functions."""

from __future__ import annotations

import ast
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from celery import Task, group

from flowstore import current
from flowstore.demo.sources import parse

INVENTORY, INSPECT, SUMMARIZE, PUBLISH = "survey.inventory", "survey.inspect", "survey.summarize", "survey.publish"

_ENOUGH = 10  # public definitions of a module to be ranked


class UnreadableModuleError(Exception):
    """A file that is not valid Python."""


def inventory(self: Task, paths: list[str], broken: list[list[str]]) -> dict[str, Any]:
    """Count the files, and start a group that inspects the broken ones."""
    inspect_one = self.app.tasks[INSPECT]
    group([inspect_one.s(module, path) for module, path in broken], app=self.app).apply_async()
    sizes = [Path(path).stat().st_size for path in paths]
    return {"files": len(paths), "bytes": sum(sizes), "suspicious": len(broken), "python": platform.python_version()}


def inspect(module: str, path: str) -> dict[str, Any]:
    """Count the functions, classes, imports and docstrings of a module."""
    file = Path(path)
    try:
        tree = parse(file)
    except (SyntaxError, ValueError) as exc:
        raise UnreadableModuleError(f"{module} is not valid Python {platform.python_version()}") from exc
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    public = [tree, *(node for node in [*functions, *classes] if not node.name.startswith("_"))]
    imports = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imports |= {
        node.module.partition(".")[0]
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {
        "module": module,
        "lines": file.read_bytes().count(b"\n"),
        "functions": len(functions),
        "classes": len(classes),
        "imports": sorted(imports),
        "public": len(public),
        "documented": sum(ast.get_docstring(node, clean=False) is not None for node in public),
    }


def summarize(_: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the results of the chord's header, read from their storage."""
    inspected = current().parent_task_results(INSPECT)
    counted = ("lines", "functions", "classes", "public", "documented")
    total = {name: sum(one[name] for one in inspected) for name in counted}
    judged = [one for one in inspected if one["public"] >= _ENOUGH]
    judged.sort(key=lambda one: (one["documented"] / one["public"], -one["public"], one["module"]))
    imported = Counter(name for one in inspected for name in one["imports"])
    return {
        "modules": len(inspected),
        **total,
        "least_documented": [[one["module"], one["documented"], one["public"]] for one in judged[:5]],
        "most_imported": [[name, count] for name, count in imported.most_common(5)],
    }


def publish(self: Task, summary: dict[str, Any]) -> dict[str, Any]:
    """Write the report. The first attempt always fails, to show a retry."""
    try:
        if self.request.retries == 0:
            raise ConnectionResetError("the connection to the report's archive was lost")
        report = Path(self.app.conf.demo_folder) / "report.md"
        report.write_text(_report(summary), encoding="utf-8")
    except OSError as exc:
        raise self.retry(exc=exc, countdown=0.2) from exc
    return {"report": str(report), "bytes": report.stat().st_size}


def _report(summary: dict[str, Any]) -> str:
    share = summary["documented"] / summary["public"]
    lines = [
        f"# {summary['modules']} modules",
        "",
        f"{summary['lines']} lines, {summary['functions']} functions, {summary['classes']} classes.",
        f"{share:.0%} of {summary['public']} public definitions have a docstring.",
        "",
        "Least documented:",
        *(f"- {module}: {documented} of {public}" for module, documented, public in summary["least_documented"]),
        "",
        "Most imported:",
        *(f"- {name}: by {count} modules" for name, count in summary["most_imported"]),
    ]
    return "\n".join(lines) + "\n"
