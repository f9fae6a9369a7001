"""Run the snippets of one page, in their order, in the current directory; test_snippets.py starts this as a program."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

STOP_SECONDS = 60


def commands(code: str) -> str:
    """Return the script that a console block shows: its ``$`` lines and what continues them."""
    lines = code.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return code
    script: list[str] = []
    continued = False
    for line in lines:
        if line.startswith("$ "):
            script.append(line[2:])
        elif continued:
            script.append(line.removeprefix("> "))
        elif line.startswith("> ") and script:
            script.append(line[2:])
        else:
            continue
        continued = script[-1].endswith("\\")
    return "\n".join(script)


class Page:
    def __init__(self, path: str) -> None:
        self.path = path
        # A module of its own is what dataclasses and get_type_hints look names up in.
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def python(self, block: dict[str, Any]) -> None:
        if block["title"]:
            importlib.import_module(".".join(PurePosixPath(block["title"]).with_suffix("").parts))
            return
        # The empty lines in front make a traceback point into the page.
        source = "\n" * block["line"] + block["code"]
        exec(compile(source, self.path, "exec", dont_inherit=True), self.module.__dict__)  # noqa: S102 - our own docs

    def pycon(self, block: dict[str, Any]) -> None:
        test = doctest.DocTestParser().get_doctest(
            block["code"], self.module.__dict__, block["place"], self.path, block["line"]
        )
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed
        self.module.__dict__.update(test.globs)
        if failed:
            raise AssertionError(f"{failed} examples print something else than the page says")

    def shell(self, block: dict[str, Any]) -> None:
        process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", commands(block["code"])])
        if block["background"]:
            self.started.append((block["place"], process))
        elif (status := process.wait()) != block["exit"]:
            raise AssertionError(f"exit status {status} instead of {block['exit']}")

    def yaml(self, block: dict[str, Any]) -> None:
        data = yaml.safe_load(block["code"])
        if isinstance(data, dict) and "storages" in data:
            # Imported here, so that pages without a configuration can be checked on their own.
            loading = importlib.import_module("flowstore.config.loading")
            path = Path(block["title"] or re.sub(r"\W", "-", block["place"]) + ".yaml")
            path.write_text(block["code"], encoding="utf-8")
            loading.load(path)

    def json(self, block: dict[str, Any]) -> None:
        json.loads(block["code"])

    def toml(self, block: dict[str, Any]) -> None:
        tomllib.loads(block["code"])

    def text(self, block: dict[str, Any]) -> None:
        """Show something that nobody runs."""

    console = sh = bash = shell

    def stop(self) -> None:
        """End what the page started in the background; fail where one of them had failed."""
        failed = []
        for place, process in self.started:
            process.terminate()
            try:
                status = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
                failed.append(f"{place}: exit status {status} in the background")
        if failed:
            raise AssertionError("; ".join(failed))


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path[0] = os.getcwd()
    page = Page(job["path"])
    try:
        for block in job["blocks"]:
            print(f"--- {block['place']} ({block['language']})", flush=True)
            getattr(page, block["language"])(block)
    finally:
        page.stop()


if __name__ == "__main__":
    main()
