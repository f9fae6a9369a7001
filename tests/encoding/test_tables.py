"""Tables of pandas, polars and pyarrow come back as they were, or are refused with the reason."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore import CorruptError, Key, Record, Ref, SerializationError
from flowstore.encoding.codec import Compression, Encryption
from flowstore.encoding.pipeline import Pipeline
from flowstore.record import RESULT

REF = Ref(RESULT, Key("flow", "task", "id"))
WHEN = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)

PANDAS: dict[str, Any] = {
    "numbers": pd.DataFrame({"i": [1, 2], "f": [1.5, float("nan")], "b": [True, False]}),
    "texts": pd.DataFrame({"s": ["x", None]}),
    "objects": pd.DataFrame({"o": np.array([Decimal("1.10"), None], dtype=object)}),
    "dates": pd.DataFrame({"d": np.array([dt.date(2024, 1, 1), None], dtype=object)}),
    "categories": pd.DataFrame({"c": pd.Categorical(["b", "a", "b"], categories=["a", "b", "z"], ordered=True)}),
    "times": pd.DataFrame(
        {"t": pd.date_range("2024-03-30", periods=3, tz="Europe/Berlin"), "d": pd.to_timedelta([1, 2, 3])}
    ),
    "nullable": pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}),
    "periods": pd.DataFrame({"p": pd.period_range("2024", periods=2, freq="M")}),
    "intervals": pd.DataFrame({"v": pd.IntervalIndex.from_breaks([0, 1, 2])}),
    "index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
    "range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
    "levels": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["n", None])),
    "number_names": pd.DataFrame({1: [1], 2: [2]}),
    "level_names": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("c", "d")])),
    "empty": pd.DataFrame(),
    "no_columns": pd.DataFrame(index=[3, 1, 2]),
    "no_rows": pd.DataFrame({"a": pd.Series([], dtype="float32")}),
}
POLARS: dict[str, Any] = {
    "scalars": pl.DataFrame({"i": [1, None], "f": [1.5, None], "s": ["x", None], "b": [b"x", None], "n": [None, None]}),
    "times": pl.DataFrame({"t": [WHEN, None], "d": [dt.date(2024, 1, 1), None], "u": [dt.timedelta(1), None]}),
    "nested": pl.DataFrame({"l": [[1], [2, 3]], "s": [{"x": 1}, {"x": None}]}),
    "exact": pl.DataFrame({"d": [Decimal("1.10")], "e": pl.Series(["a"], dtype=pl.Enum(["b", "a"]))}),
    "categories": pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Categorical)}),
    "empty": pl.DataFrame(),
    "no_rows": pl.DataFrame({"a": []}, schema={"a": pl.Int8}),
}
ARROW: dict[str, Any] = {
    "table": pa.table({"a": [1, None], "l": [[1], None], "d": pa.array(["x", "y"]).dictionary_encode()}),
    "chunks": pa.chunked_array([[1], [2, 3]]),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    "batch": pa.record_batch({"a": [1, 2]}),
    "empty": pa.table({}),
}
ARROW["chunks"] = pa.table({"a": ARROW["chunks"]})

pipelines = pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(),
        Pipeline("msgpack", compression=Compression("zstd", min_size=0)),
        Pipeline("pickle", encryption=Encryption({"k": bytes(32)}, "k")),
    ],
    ids=["json", "msgpack-zstd", "pickle-aes"],
)


@pipelines
@pytest.mark.parametrize("name", PANDAS)
def test_a_frame_of_pandas_comes_back(pipeline: Pipeline, name: str) -> None:
    frame = PANDAS[name]
    record = pipeline.encode(REF, frame)
    assert record.headers["serializer"] == "arrow-pandas"
    pd.testing.assert_frame_equal(pipeline.decode(record), frame, check_freq=False)


@pipelines
@pytest.mark.parametrize("name", POLARS)
def test_a_frame_of_polars_comes_back(pipeline: Pipeline, name: str) -> None:
    frame = POLARS[name]
    back = pipeline.decode(pipeline.encode(REF, frame))
    assert isinstance(back, pl.DataFrame)
    assert back.schema == frame.schema
    assert back.equals(frame)


@pipelines
@pytest.mark.parametrize("name", ARROW)
def test_a_table_of_pyarrow_comes_back(pipeline: Pipeline, name: str) -> None:
    table = ARROW[name]
    back = pipeline.decode(pipeline.encode(REF, table))
    assert type(back) is type(table)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(st.characters(exclude_categories=["Cs"]))),
        max_size=20,
    )
)
def test_any_columns_come_back(rows: list[Any]) -> None:
    pipeline = Pipeline()
    frame = pd.DataFrame(rows, columns=["i", "f", "s"]).astype({"i": "int64", "f": "float64", "s": "str"})
    pd.testing.assert_frame_equal(pipeline.decode(pipeline.encode(REF, frame)), frame, check_exact=True)
    other = pl.DataFrame(rows, schema={"i": pl.Int64, "f": pl.Float64, "s": pl.String}, orient="row")
    assert pipeline.decode(pipeline.encode(REF, other)).equals(other)


@pytest.mark.parametrize("name", PANDAS)
def test_a_frame_that_came_back_may_be_written_to(name: str) -> None:
    pipeline = Pipeline()
    frame = pipeline.decode(pipeline.encode(REF, PANDAS[name]))
    for column in range(frame.shape[1]):
        if len(frame):
            frame.iloc[0, column] = frame.iloc[-1, column]


def test_any_tool_reads_the_stream() -> None:
    record = Pipeline().encode(REF, PANDAS["numbers"])
    assert record.headers["content_type"] == "application/vnd.apache.arrow.stream"
    assert pa.ipc.open_stream(record.payload).read_all().column("i").to_pylist() == [1, 2]
    assert pl.read_ipc_stream(io.BytesIO(record.payload))["i"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pd.DataFrame({"o": np.array([[1, 2], [3]], dtype=object)}), "'o' holds objects that Arrow would change"),
        (pd.DataFrame({"o": np.array([{"a": 1}, {"b": 2}], dtype=object)}), "'o' holds objects"),
        (pd.DataFrame({"o": np.array([1, 2], dtype=object)}), "'o' would come back as int64"),
        (pd.DataFrame({"o": np.array([1, "x"], dtype=object)}), "column o"),
        (pd.DataFrame({"a": [1], 2: [3]}), "names have several types"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (pd.DataFrame({"c": [1 + 2j]}), "column c"),
        (pl.DataFrame({"o": [object()]}), "no equivalent of a column's type"),
    ],
)
def test_a_table_that_would_not_come_back_equal_is_refused(value: Any, reason: str) -> None:
    for serializer in ("json", "msgpack"):
        with pytest.raises(SerializationError, match=reason) as caught:
            Pipeline(serializer).encode(REF, value)
        assert caught.value.type_name == f"{type(value).__module__.partition('.')[0]}.DataFrame"


def test_a_refusal_does_not_show_the_values() -> None:
    with pytest.raises(SerializationError) as caught:
        Pipeline().encode(REF, pd.DataFrame({"o": np.array([1, "hunter2"], dtype=object)}))
    assert "hunter2" not in str(caught.value)


def test_what_has_no_form_in_arrow_is_pickled_where_that_is_named() -> None:
    frame = pd.DataFrame({"o": np.array([[1, 2], [3]], dtype=object)})
    record = Pipeline("pickle").encode(REF, frame)
    assert record.headers["serializer"] == "pickle"
    assert Pipeline("pickle").decode(record).equals(frame)


@pytest.mark.parametrize("value", [pd.Series([1]), pl.Series([1])])
def test_a_series_is_refused_with_the_way_out(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"return its \.to_frame\(\)"):
        Pipeline().encode(REF, value)


def test_a_table_inside_of_something_else_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"\$\.table: a value of type .*DataFrame"):
        Pipeline().encode(REF, {"table": PANDAS["numbers"]})


def damaged(record: Record, payload: bytes) -> Record:
    forged = Pipeline().encode_bytes(REF, payload)
    return replace(forged, headers={**record.headers, "digest": forged.headers["digest"]})


@pytest.mark.parametrize("value", [PANDAS["texts"], POLARS["scalars"], ARROW["table"], ARROW["batch"]])
def test_a_damaged_stream_is_refused(value: Any) -> None:
    record = Pipeline().encode(REF, value)
    for payload in (b"", b"x" * 100, bytes(100), record.payload[:60], record.payload[: len(record.payload) // 2]):
        with pytest.raises(CorruptError, match="is not what the serializer"):
            Pipeline().decode(damaged(record, payload))


def test_a_table_is_shown_as_its_rows() -> None:
    for value in (
        PANDAS["range"],
        pl.DataFrame({"a": [1, 2]}),
        pa.table({"a": [1, 2]}),
        pa.record_batch({"a": [1, 2]}),
    ):
        assert Pipeline().as_json(Pipeline().encode(REF, value)) == b'[{"a":1},{"a":2}]'


def test_without_pyarrow_a_table_is_refused_with_the_extra() -> None:
    code = """
import sys
sys.modules["pyarrow"] = None
from flowstore import Key, Ref, SerializationError, CorruptError
from flowstore.encoding.pipeline import Pipeline
import dataclasses, pandas
REF = Ref("result", Key("f", "t", "1"))
try:
    Pipeline().encode(REF, pandas.DataFrame({"a": [1]}))
except SerializationError as exc:
    print(exc)
record = Pipeline().encode_bytes(REF, b"x")
try:
    Pipeline().decode(dataclasses.replace(record, headers={**record.headers, "serializer": "arrow-table"}))
except CorruptError as exc:
    print(exc)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs pyarrow to be stored. Run: pip install 'flowstore[arrow]'" in printed
    assert "can't be read because a package is missing" in printed
    assert "pyarrow" in printed.splitlines()[1]


def test_a_few_bytes_of_missing_values_are_not_spread_out() -> None:
    sink = pa.BufferOutputStream()
    column = pa.array([None] * 1000, pa.null())
    table = pa.table({str(number): column for number in range(3)})
    hollow = pa.RecordBatch.from_arrays([pa.nulls(2**30)] * 3, names=["a", "b", "c"])
    with pa.ipc.new_stream(sink, hollow.schema) as writer:
        writer.write(hollow)
    payload = sink.getvalue().to_pybytes()
    assert len(payload) < 2000
    pipeline = Pipeline()
    with pytest.raises(CorruptError, match="1073741824 rows of 3 columns"):
        pipeline.decode(pipeline.encode_bytes(REF, payload, {"serializer": "arrow-pandas"}))
    few = table.to_pandas()
    assert pipeline.decode(pipeline.encode(REF, few)).equals(few)
