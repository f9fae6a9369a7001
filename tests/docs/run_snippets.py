"""Run the snippets of one page, in their order, in the current directory; test_snippets.py starts this as a program."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
import types
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

STOP_SECONDS = 60


MARK = "…"
_CHANGES = {
    "any": r".+?",
    "id": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?",
}
_CHANGING = re.compile(rf"(?P<any>{MARK})|(?P<id>{_CHANGES['id']})|(?P<time>{_CHANGES['time']})")


@dataclass
class Command:
    """A command of a console block, and the lines that the page shows below it."""

    script: str
    shown: list[str] = field(default_factory=list)


def commands(code: str) -> list[Command]:
    """Return the commands of a console block; a block without ``$`` lines is one script that shows nothing."""
    lines = code.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [Command(code)]
    found: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif not found:
            raise ValueError(f"output without a command before it: {line}")
        elif not found[-1].shown and (line.startswith("> ") or found[-1].script.endswith("\\")):
            found[-1].script += "\n" + line.removeprefix("> ")
        else:
            found[-1].shown.append(line)
    return found


def compare(shown: str, printed: str, place: str) -> None:
    """Raise AssertionError unless a page shows what was printed."""
    if not matches(shown, printed):
        raise AssertionError(f"{place}: the page shows\n{shown.strip()}\nand this was printed:\n{printed.strip()}")


def matches(shown: str, printed: str) -> bool:
    """Return whether a page shows what was printed, without blanks at the ends of lines.

    ``…`` stands for at least one character; alone on a line, for any number of lines. An id or a time stands for any.
    """
    lines = [line.rstrip() for line in shown.strip("\n").splitlines()]
    if all(line.strip() == MARK for line in lines):
        raise ValueError("nothing is compared: each line is a mark alone")
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == MARK else rf"{_pattern(line)}\n" for line in lines)
    found = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, found) is not None


def _pattern(line: str) -> str:
    pattern, end = "", 0
    for changing in _CHANGING.finditer(line):
        pattern += re.escape(line[end : changing.start()]) + _CHANGES[changing.lastgroup or ""]
        end = changing.end()
    return pattern + re.escape(line[end:])


class Checker(doctest.OutputChecker):
    """Compares as ``matches`` does; ``<BLANKLINE>`` stays doctest's way to show an empty line."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if want == got or not want.strip():
            return want == got
        return matches(re.sub(r"(?m)^<BLANKLINE>$", "", want), got)


class Tee(io.TextIOBase):
    """Writes to stdout, and keeps what was written."""

    def __init__(self) -> None:
        self.kept = ""
        self._stdout = sys.stdout

    def write(self, text: str) -> int:
        self.kept += text
        return self._stdout.write(text)

    def flush(self) -> None:
        self._stdout.flush()


class Page:
    def __init__(self, path: str) -> None:
        self.path = path
        # A module of its own is what dataclasses and get_type_hints look names up in.
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.started: list[tuple[str, subprocess.Popen[bytes]]] = []
        # What the block before has printed.
        self.printed = ""

    def run(self, block: dict[str, Any]) -> None:
        """Run a block, or compare it with what the block before has printed."""
        if block["output"]:
            compare(block["code"], self.printed, block["place"])
            return
        self.printed = ""
        getattr(self, block["language"])(block)

    def python(self, block: dict[str, Any]) -> None:
        output = Tee()
        with contextlib.redirect_stdout(output):
            if block["title"]:
                importlib.import_module(".".join(PurePosixPath(block["title"]).with_suffix("").parts))
            else:
                # The empty lines in front make a traceback point into the page.
                source = "\n" * block["line"] + block["code"]
                exec(compile(source, self.path, "exec", dont_inherit=True), self.module.__dict__)  # noqa: S102 - our docs
        self.printed = output.kept

    def pycon(self, block: dict[str, Any]) -> None:
        test = doctest.DocTestParser().get_doctest(
            block["code"], self.module.__dict__, block["place"], self.path, block["line"]
        )
        failed = doctest.DocTestRunner(Checker()).run(test, clear_globs=False).failed
        self.module.__dict__.update(test.globs)
        if failed:
            raise AssertionError(f"{failed} examples print something else than the page says")

    def shell(self, block: dict[str, Any]) -> None:
        found = commands(block["code"])
        if block["background"]:
            if any(command.shown for command in found):
                raise ValueError("output of a command in the background can't be compared")
            script = "\n".join(command.script for command in found)
            self.started.append((block["place"], subprocess.Popen(_bash(script))))
            return
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder, str(number)) for number in range(len(found))]
            script = "\n".join(
                f"exec >{output} 2>&1\n{command.script}" for command, output in zip(found, outputs, strict=True)
            )
            status = subprocess.run(_bash(script), check=False).returncode
            printed = [output.read_text(encoding="utf-8") if output.exists() else "" for output in outputs]
        self.printed = "".join(printed)
        print(self.printed, end="", flush=True)
        if status != block["exit"]:
            raise AssertionError(f"exit status {status} instead of {block['exit']}")
        for command, output in zip(found, printed, strict=True):
            if command.shown:
                compare("\n".join(command.shown), output, f"{block['place']}: {command.script}")

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
        """Accept a file of any form: it was written before the page began."""

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


def _bash(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path[0] = os.getcwd()
    page = Page(job["path"])
    try:
        for block in job["blocks"]:
            print(f"--- {block['place']} ({block['language']})", flush=True)
            page.run(block)
    finally:
        page.stop()


if __name__ == "__main__":
    main()
