"""Every fenced block of README.md and docs/**/*.md is run.

A page is run from top to bottom in an empty directory of its own (``DATA_DIR`` names it), as a reader would:

- ``python``: all blocks of a page share one namespace. ``pycon``: the same, and the output shown is compared.
- ``console``, ``shell``, ``bash``, ``sh``: run by bash, which stops at the first command that fails, one bash for each
  block. Where lines begin with ``$ `` these are the commands; a command goes on after a backslash or on lines that
  begin with ``> ``. Lines below a command are its output and are compared; a command without any shows nothing.
- ``yaml``: parsed, and where it has ``storages`` loaded as a configuration. ``json``, ``toml``: parsed.
- ``text``: a file, which needs a title, or output, which needs a marker. Any other language needs a marker.

Output is compared line by line, standard output and errors alike. Ids (UUIDs) and times (``2026-11-20 13:50:42``) are
those of another run: any id and any time will do. Whatever else changes is shown as ``…``: at least one character, or
alone on a line any number of lines.

A file is a block with a title: ```` ```python title="tasks.py" ````. All files of a page are written before its first
block is run; a titled ``python`` block is then imported at its place. Sphinx shows the title; elsewhere it is unseen.

A marker is a comment right before a block:

- ``<!-- snippet: skip, needs a PostgreSQL server -->``: not run and not written; reported as skipped with that reason.
- ``<!-- snippet: output -->``: a ``text`` or ``json`` block that is compared with what the block before has printed.
- ``<!-- snippet: exit 3 -->``: the commands end with this status.
- ``<!-- snippet: background -->``: the command goes on (a worker) while the next blocks run, and ends with the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_snippets.py")
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.exists() and "_build" not in page.parts
]
SHELLS = frozenset({"console", "shell", "bash", "sh"})
LANGUAGES = SHELLS | {"python", "pycon", "yaml", "json", "toml", "text"}
PAGE_SECONDS = 240

_MARKER = re.compile(r"<!--\s*snippet:\s*(?:(skip),\s*(\S.*?)|exit (\d+)|(background)|(output))\s*-->\s*", re.DOTALL)
_INFO = re.compile(r'(\S+)(?: title="([^"]+)")?')


@dataclass(frozen=True)
class Block:
    place: str
    line: int
    language: str
    title: str
    code: str
    skip: str = ""
    exit: int = 0
    background: bool = False
    output: bool = False


def blocks(text: str, name: str, offset: int = 0) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those inside of directives such as ``{note}`` too."""
    marker: re.Match[str] | None = None
    for token in MarkdownIt("commonmark").parse(text):
        start = offset + token.map[0] if token.map else offset
        place = f"{name}:{start + 1}"
        if token.type == "html_block" and "snippet:" in token.content:
            marker = _MARKER.fullmatch(token.content)
            if marker is None:
                raise ValueError(f"{place}: not a marker: {token.content.strip()}")
        elif token.type == "fence" and token.info.startswith("{"):
            if token.info.startswith("{code-block}"):
                raise ValueError(f'{place}: write ```python title="..." instead of {{code-block}}, so that it is run')
            yield from blocks(token.content, name, start + 1)
        elif token.type == "fence":
            yield _block(token.info.strip(), token.content, place, start + 1, marker)
            marker = None
        elif marker is not None:
            raise ValueError(f"{place}: no block follows the marker before")
    if marker is not None:
        raise ValueError(f"{name}: no block follows the last marker")


def _block(info: str, code: str, place: str, line: int, marker: re.Match[str] | None) -> Block:
    parsed = _INFO.fullmatch(info)
    if parsed is None:
        raise ValueError(f'{place}: a block is opened by ```language or ```language title="file", not ```{info}')
    language, title = parsed[1], parsed[2] or ""
    skip, reason, status, background, output = marker.groups() if marker else (None,) * 5
    if skip is None and language not in LANGUAGES:
        raise ValueError(f"{place}: no way to run {language!r}: use one of {', '.join(sorted(LANGUAGES))}, or skip it")
    if (status or background) and language not in SHELLS:
        raise ValueError(f"{place}: only commands have an exit status or a background")
    if output and (language not in ("text", "json") or title):
        raise ValueError(f"{place}: output is a text or json block without a title")
    if language == "text" and not (title or output or skip):
        raise ValueError(f"{place}: text is a file, with a title, or marked as the output of the block before")
    if title and (PurePosixPath(title).is_absolute() or ".." in PurePosixPath(title).parts):
        raise ValueError(f"{place}: {title} is not below the page's directory")
    return Block(place, line, language, title, code, reason or "", int(status or 0), bool(background), bool(output))


def page_blocks(page: Path) -> list[Block]:
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    found = list(blocks(page.read_text(encoding="utf-8"), name))
    shells = SHELLS | {"python"}
    for before, block in zip([None, *found], found, strict=False):
        if block.output and (before is None or before.language not in shells or before.skip or before.background):
            raise ValueError(f"{block.place}: the block before prints nothing that could be compared")
    titles = [block.title for block in found if block.title and not block.skip]
    if len(titles) != len(set(titles)):
        raise ValueError(f"{page}: two blocks have the same title")
    return found


def run(page: Path, directory: Path) -> None:
    """Run a page in a directory; fail with all that it printed."""
    wanted = [block for block in page_blocks(page) if not block.skip]
    work = directory / "page"
    work.mkdir()
    for block in wanted:
        if block.title:
            target = work / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code, encoding="utf-8")
    job = directory / "job.json"
    job.write_text(json.dumps({"path": str(page), "blocks": [asdict(block) for block in wanted]}), encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "DATA_DIR": str(work), "NO_COLOR": "1"}
    printed = directory / "printed.txt"
    # Into a file: what a page leaves running would hold a pipe open.
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(RUNNER), str(job)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0:
        why = "did not end in time" if status is None else f"ended with status {status}"
        pytest.fail(f"{page.name} {why}:\n{printed.read_text(encoding='utf-8', errors='replace')}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page_runs(page: Path, tmp_path: Path) -> None:
    run(page, tmp_path)


SKIPPED = [block for page in PAGES for block in page_blocks(page) if block.skip]


if SKIPPED:

    @pytest.mark.parametrize("block", SKIPPED, ids=[block.place for block in SKIPPED])
    def test_block_is_skipped(block: Block) -> None:
        pytest.skip(f"{block.place}: {block.skip}")


GOOD = """
The file comes last and is there first, a namespace is shared, and output is compared.

```python
import os
import tasks
from dataclasses import dataclass

@dataclass
class Row:
    name: "str"

total = tasks.add(1, 2)
os.environ["GIVEN"] = "yes"
```

> ```pycon
> >>> total
> 3
> >>> {"total": total, "other": object()}
> {'total': 3, 'other': <object object at …>}
> ```

```python
print("id", object())
print("one", "two", sep="\\n")
```

<!-- snippet: output -->
```text
id <object object at 0x…>
…
two
```

<!-- snippet: background -->
```console
$ while [ ! -e stop ]; do sleep 0.1; done; echo stopped > done.txt
```

```console
$ test "$GIVEN" = yes && echo "any \\
> text" && date
any text
…:…
$ date +"at %F %T" && python -c "import uuid; print('run', uuid.uuid4())"
at 2026-11-20 13:50:42
run 56df8ae2-084e-45e4-9601-b1dda9d2c73b
$ echo not shown
$ echo to stderr >&2
to stderr
$ test "$DATA_DIR" = "$PWD"
$ touch stop; until [ -e done.txt ]; do sleep 0.1; done
```

<!-- snippet: exit 3 -->
```console
$ exit 3
```

<!-- snippet: skip, there is no such program -->
```console
$ no-such-program
```

````{note}
```python
assert total == 3
```
````

```python title="tasks.py"
def add(a, b):
    return a + b
```
"""


def test_good_page_passes(tmp_path: Path) -> None:
    page = tmp_path / "good.md"
    page.write_text(GOOD, encoding="utf-8")
    run(page, tmp_path)
    assert [(block.place, block.skip) for block in page_blocks(page) if block.skip] == [
        ("good.md:62", "there is no such program")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intro\n\n```python\nx = 1\nx.nothing\n```", r"bad\.md\", line 5"),
        ("```python\nx = 1\n```\n```pycon\n>>> x\n2\n```", "examples print something else"),
        ("```pycon\n>>> 'a…b'[:2], 1\n('a…', 2)\n```", "examples print something else"),
        ("```console\n$ echo a b\na  b\n```", r"bad\.md:1: echo a b: the page shows\na  b\nand this was printed:\na b"),
        ("```console\n$ echo a; echo b\na\n```", "the page shows"),
        ("```console\n$ date +%F\n2026-11-20 13:50:42\n```", "the page shows"),
        ("```console\n$ echo 56df\n56df8ae2-084e-45e4-9601-b1dda9d2c73b\n```", "the page shows"),
        ("```console\n$ true\nplanted\n```", "the page shows"),
        ("```console\n$ echo 2026\n2026…\n```", "the page shows"),
        ("```console\n$ echo a; echo b >&2\na\nc\n```", "the page shows"),
        ("```console\n$ echo a; echo b\na\n…\nc\n```", "the page shows"),
        ("```console\n$ echo a\n…\n```", "nothing is compared"),
        ("```console\noutput\n$ echo a\n```", "without a command"),
        ("<!-- snippet: background -->\n```console\n$ echo a\na\n```", "can't be compared"),
        ("```python\nprint(1)\n```\n<!-- snippet: output -->\n```text\n2\n```", "bad.md:5: the page shows\n2"),
        ("```sh\necho 1\n```\n<!-- snippet: output -->\n```json\n2\n```", "bad.md:5: the page shows\n2"),
        ("```console\n$ false\n$ true\n```", "exit status 1 instead of 0"),
        ("```console\n$ false | true\n```", "exit status 1 instead of 0"),
        ("<!-- snippet: exit 3 -->\n```console\n$ true\n```", "exit status 0 instead of 3"),
        ("```console\n$ echo ${NOT_SET_ANYWHERE}\n```", "unbound variable"),
        (
            (
                "<!-- snippet: background -->\n```sh\ntrap '' TERM; touch armed; exit 4\n```\n"
                "```sh\nuntil [ -e armed ]; do :; done\n```"
            ),
            "exit status 4 in the background",
        ),
        ('```python title="broken.py"\nimport no_such_module_at_all\n```', "no_such_module_at_all"),
        ("```yaml\na: [1\n```", "expected ',' or ']'"),
        ("```json\n{'a': 1}\n```", "JSONDecodeError"),
        ("```toml\na = \n```", "TOMLDecodeError"),
        ("````{tip}\n```python\n1 / 0\n```\n````", "ZeroDivisionError"),
    ],
)
def test_broken_snippet_fails(tmp_path: Path, text: str, message: str) -> None:
    page = tmp_path / "bad.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match=message):
        run(page, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sql\nSELECT 1\n```", "no way to run 'sql'"),
        ("```\nx\n```", "a block is opened by"),
        ("```python linenos\nx\n```", "a block is opened by"),
        ("```{code-block} python\nx\n```", "so that it is run"),
        ("<!-- snippet: skip -->\n```python\nx\n```", "not a marker"),
        ("<!-- snippet: exit 3 -->\n```python\nx\n```", "only commands"),
        ("<!-- snippet: skip, why -->\n\ntext", "no block follows"),
        ("<!-- snippet: skip, why -->", "no block follows"),
        ("```text\nx\n```", "text is a file, with a title"),
        ("<!-- snippet: output -->\n```text\nx\n```", "prints nothing"),
        ("```yaml\nx: 1\n```\n<!-- snippet: output -->\n```text\nx\n```", "prints nothing"),
        ("```python\nx = 1\n```\n<!-- snippet: output -->\n```python\nx\n```", "output is a text or json block"),
        ('```text title="../x"\nx\n```', "not below"),
        ('```text title="x"\n1\n```\n```text title="x"\n2\n```', "the same title"),
    ],
)
def test_unclear_block_is_refused(tmp_path: Path, text: str, message: str) -> None:
    page = tmp_path / "unclear.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        page_blocks(page)
