"""How the tasks of a run are laid out."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from flowstore import Key, TaskRun
from flowstore.cli import flowstore
from flowstore.cli.layout import Step, layout_of, tasks_in
from flowstore.cli.text import duration_text, one_line, printable, printable_json, size_text


def task(id: str, *parents: str, state: str = "SUCCESS", **headers: Any) -> TaskRun:
    keys = tuple(Key("f", "t", parent) for parent in parents)
    return TaskRun(Key("f", "t", id), state, 1, "S", 1, parents=keys, headers=headers)


def drawn(sequence: list[Step]) -> Any:
    """Return a sequence as nested lists: a step is its id, or a pair of it and its branches."""
    found: list[Any] = []
    for step in sequence:
        name = step.task.id if step.task else ""
        branches = [drawn(branch) for bundle in step.bundles for branch in bundle.branches]
        found.append((name, branches) if branches else name)
    return found


def test_a_chain_stays_on_one_level() -> None:
    tasks = [task("0"), *(task(str(number), str(number - 1)) for number in range(1, 5000))]
    assert drawn(layout_of(tasks)) == ["", *(str(number) for number in range(5000))]


def test_a_chord_in_a_chain_goes_on_on_the_level_of_the_chain() -> None:
    tasks = [
        task("first"),
        task("a", "first", group_id="g", group_index=0),
        task("b", "first", group_id="g", group_index=1),
        task("body", "a", "b", joins="g"),
        task("last", "body"),
    ]
    sequence = layout_of(tasks)
    assert drawn(sequence) == ["", ("first", [["a"], ["b"]]), "body", "last"]
    assert sequence[1].bundles[0].joined_by == "t"


def test_a_chord_that_a_client_started() -> None:
    tasks = [
        task("a", group_id="g", group_index=0),
        task("b", group_id="g", group_index=1),
        task("body", "a", "b", joins="g"),
    ]
    assert drawn(layout_of(tasks)) == [("", [["a"], ["b"]]), "body"]


def test_chains_and_a_chord_inside_of_a_header() -> None:
    tasks = [
        task("first"),
        task("a1", "first"),
        task("a2", "a1", group_id="g", group_index=0),
        task("b1", "first"),
        task("x", "b1", group_id="h", group_index=0),
        task("y", "b1", group_id="h", group_index=1),
        task("b2", "x", "y", joins="h", group_id="g", group_index=1),
        task("body", "a2", "b2", joins="g"),
    ]
    sequence = layout_of(tasks)
    assert drawn(sequence) == ["", ("first", [["a1", "a2"], [("b1", [["x"], ["y"]]), "b2"]]), "body"]
    assert [bundle.group_id for bundle in sequence[1].bundles] == ["g"]


def test_a_header_of_one_task_is_followed_by_the_body() -> None:
    assert drawn(layout_of([task("a", group_id="g", group_index=0), task("body", "a", joins="g")])) == ["", "a", "body"]


def test_a_body_whose_header_is_not_stored() -> None:
    assert drawn(layout_of([task("body", "gone", "lost", joins="g"), task("last", "body")])) == ["", "body", "last"]


def test_groups_started_by_one_task_are_kept_apart() -> None:
    tasks = [task("first")]
    tasks += [task(f"{group}{n}", "first", group_id=group, group_index=n) for n in range(2) for group in "gh"]
    bundles = layout_of(tasks)[1].bundles
    assert [(bundle.group_id, len(bundle.branches)) for bundle in bundles] == [("g", 2), ("h", 2)]


def test_branches_inside_of_branches_without_end() -> None:
    tasks = [task("0")]
    for number in range(1, 3000):
        tasks += [task(str(number), str(number - 1)), task(f"side-{number}", str(number - 1))]
    assert len(tasks_in(layout_of(tasks))) == len(tasks)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 12), max_size=3), st.sampled_from([{}, {"joins": "g"}])), max_size=12)
)
def test_every_task_is_shown_once_whatever_the_data_claims(given: list[tuple[list[int], dict[str, str]]]) -> None:
    tasks = [
        task(str(number), *map(str, parents), **headers, group_id="g", group_index=number)
        for number, (parents, headers) in enumerate(given)
    ]
    shown = [one.id for one in tasks_in(layout_of(tasks))]
    assert sorted(shown) == sorted(one.id for one in tasks)


@given(st.text() | st.text("\x1b\x9b\r\n\t\u202e\U000e0001\xad"))
def test_a_printable_text_prints(text: str) -> None:
    assert one_line(text).isprintable()
    assert printable(text).isprintable()
    as_json = printable_json(json.dumps([text], ensure_ascii=False, indent=1))
    assert as_json.replace("\n", "").isprintable()
    assert json.loads(as_json) == [text]


def test_numbers_for_people() -> None:
    assert [size_text(size) for size in (None, 0, 999, 1000, 99_949, 123_456, 5 * 10**9)] == [
        "", "0 B", "999 B", "1.0 kB", "99.9 kB", "123 kB", "5.0 GB",
    ]  # fmt: skip
    assert [duration_text(seconds) for seconds in (0, 0.0421, 1, 59.94, 61, 7260)] == [
        "<1 ms", "42 ms", "1.0 s", "59.9 s", "1 min 1 s", "2 h 1 min",
    ]  # fmt: skip


def test_every_command_explains_itself() -> None:
    for name in (None, *flowstore.commands):
        ended = CliRunner().invoke(flowstore, ["--help"] if name is None else [name, "--help"])
        assert ended.exit_code == 0
        assert "Usage: " in ended.output
