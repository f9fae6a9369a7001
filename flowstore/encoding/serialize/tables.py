"""Tables of pandas, polars and pyarrow as Arrow streams.

The libraries are imported when one of their tables is encoded or decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt

PANDAS: Final = "arrow-pandas"
POLARS: Final = "arrow-polars"
TABLE: Final = "arrow-table"
BATCH: Final = "arrow-batch"
_MOST_CELLS: Final = 2**27
_HINT: Final = "Run: pip install 'flowstore[arrow]'"


def dumps(value: object) -> tuple[bytes, str] | None:
    """Encode a table.

    Returns:
        The bytes, and the serializer name for ``loads``; ``None`` if the value is not a table.

    Raises:
        SerializationError: the table would not come back equal.
    """
    kind = type(value)
    write = _WRITERS.get((kind.__module__.partition(".")[0], kind.__name__))
    if write is None:
        return None
    try:
        return write(value)
    except (SerializationError, MemoryError):
        raise
    except ImportError as exc:
        raise SerializationError(f"can't store $: a {_named(value)} needs pyarrow to be stored. {_HINT}") from exc
    except Exception as exc:  # the libraries raise anything for what Arrow can't represent
        if is_interrupt(exc):
            raise
        # If pyarrow gives two arguments, the first quotes a value and the last names the column.
        raise _refusal(value, str(exc.args[-1] if exc.args else type(exc).__name__)) from exc


def as_rows(value: Any) -> list[dict[str, Any]]:
    """Return a table as a list of dicts."""
    module = type(value).__module__.partition(".")[0]
    if module == "pandas":
        value = _from_pandas(value)
    rows: list[dict[str, Any]] = value.to_dicts() if module == "polars" else value.to_pylist()
    return rows


def loads_pandas(payload: bytes) -> Any:
    """Decode a ``pandas.DataFrame``."""
    table = _read(payload)
    if _is_hollow(table, payload):
        raise ValueError(f"{table.num_rows} rows of {table.num_columns} columns in {len(payload)} bytes")
    # Without a copy, some of its columns would be read-only.
    return table.to_pandas().copy()


def _is_hollow(table: Any, payload: bytes) -> bool:
    """Return whether a table has more cells than bits.

    Arrow needs no space for a column of missing values, pandas does.
    """
    cells: int = table.num_rows * table.num_columns
    return cells > max(_MOST_CELLS, 8 * len(payload))


def loads_polars(payload: bytes) -> Any:
    """Decode a ``polars.DataFrame``."""
    import polars

    try:
        return polars.read_ipc_stream(payload)
    except BaseException as exc:
        if type(exc).__name__ == "PanicException":  # it derives from BaseException
            raise ValueError(str(exc)) from exc
        raise


def loads_table(payload: bytes) -> Any:
    """Decode a ``pyarrow.Table``."""
    return _read(payload)


def loads_batch(payload: bytes) -> Any:
    """Decode a ``pyarrow.RecordBatch``."""
    import pyarrow

    batches = _read(payload).to_batches()
    if len(batches) != 1:
        raise pyarrow.ArrowInvalid(f"{len(batches)} batches instead of one")
    return batches[0]


def _read(payload: bytes) -> Any:
    import pyarrow

    with pyarrow.ipc.open_stream(payload) as reader:
        table = reader.read_all()
    table.validate(full=True)  # a forged offset would point outside the payload
    return table


def _write_pandas(frame: Any) -> tuple[bytes, str]:
    columns = frame.columns
    if columns.nlevels == 1 and columns.inferred_type.startswith("mixed"):
        raise _refusal(frame, "its column names have several types")
    table = _from_pandas(frame)
    # An empty table shows the resulting types; columns of objects have to be compared value by value.
    objects = [place for place, dtype in enumerate(frame.dtypes) if dtype == "object"]
    whole = bool(objects) or frame.index.dtype == "object"
    back = (table if whole else table.slice(0, 0)).to_pandas()
    if not columns.equals(back.columns) or columns.dtype != back.columns.dtype:
        raise _refusal(frame, "its column names would be changed")
    if frame.index.names != back.index.names or frame.index.dtype != back.index.dtype:
        raise _refusal(frame, "its index would be changed")
    if whole and not frame.index.equals(back.index):
        raise _refusal(frame, "its index would be changed")
    for place, name in enumerate(columns):
        if frame.dtypes.iloc[place] != back.dtypes.iloc[place]:
            raise _refusal(frame, f"its column {name!r} would come back as {back.dtypes.iloc[place]}")
    for place in objects:
        if not all(map(_same, frame.iloc[:, place], back.iloc[:, place])):
            raise _refusal(frame, f"its column {columns[place]!r} holds objects that Arrow would change")
    payload = _write_table(table)[0]
    if _is_hollow(table, payload):
        raise _refusal(frame, "it has too many missing values")
    return payload, PANDAS


def _from_pandas(frame: Any) -> Any:
    import pyarrow

    return pyarrow.Table.from_pandas(frame)


def _same(one: Any, other: Any) -> bool:
    import pandas

    if type(one) is type(other):
        equal = one == other
        return equal is True or (pandas.api.types.is_scalar(one) and bool(pandas.isna(one)))
    # Which marker of a missing value was used is not preserved.
    scalars = pandas.api.types.is_scalar(one) and pandas.api.types.is_scalar(other)
    return bool(scalars and pandas.isna(one) and pandas.isna(other))


def _write_polars(frame: Any) -> tuple[bytes, str]:
    import polars

    buffer = io.BytesIO()
    frame.clear().write_ipc_stream(buffer)
    if polars.read_ipc_stream(buffer.getvalue()).schema != frame.schema:
        raise _refusal(frame, "Arrow has no equivalent of a column's type")
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue(), POLARS


def _write_table(table: Any) -> tuple[bytes, str]:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    payload: bytes = sink.getvalue().to_pybytes()
    return payload, BATCH if isinstance(table, pyarrow.RecordBatch) else TABLE


_WRITERS: Final[dict[tuple[str, str], Callable[[Any], tuple[bytes, str]]]] = {
    ("pandas", "DataFrame"): _write_pandas,
    ("polars", "DataFrame"): _write_polars,
    ("pyarrow", "Table"): _write_table,
    ("pyarrow", "RecordBatch"): _write_table,
}


def _named(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def _refusal(value: object, why: str) -> SerializationError:
    name = _named(value)
    return SerializationError(f"can't store $: a {name} can't be stored as Arrow without changes: {why}", "$", name)
