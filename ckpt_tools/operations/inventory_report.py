"""The checkpoints that an inventory lists, as a table in a file: CSV or, for a job array's parts, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import IO, Any

from ckpt_tools.analysis.inventory import COLUMNS, INSTALL, ListedCheckpoint
from ckpt_tools.errors import UnsupportedError, UsageError
from ckpt_tools.fs import durable

# Of which Parquet type each column is; the others are texts.
_NUMBERS = ("files", "shards", "nbytes", "tensors")
_AT_ONCE = 65536


def require_format(path: str) -> None:
    """Raises UsageError for another ending than ``.csv`` or ``.parquet``, UnsupportedError without pyarrow."""
    if not path.endswith((".csv", ".parquet")):
        raise UsageError(f"--out {path}: must end in .csv or .parquet")
    if path.endswith(".parquet"):
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UnsupportedError("writing Parquet needs pyarrow", path=path, hint=INSTALL) from error


def write_table(path: str, rows: Sequence[ListedCheckpoint]) -> None:
    """Write the table, replacing one that is there; it gets its name when it is whole. Raises StorageError."""
    require_format(path)
    with durable.created(path, replace=True) as file:
        (_write_parquet if path.endswith(".parquet") else _write_csv)(file, rows)


def _write_csv(file: IO[bytes], rows: Sequence[ListedCheckpoint]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    text.flush()
    text.detach()


def _write_parquet(file: Any, rows: Sequence[ListedCheckpoint]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema([(name, pa.int64() if name in _NUMBERS else pa.string()) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            columns = {name: [getattr(row, name) for row in part] for name in COLUMNS}
            try:
                table = pa.table(columns, schema=schema)
            except UnicodeEncodeError:  # of a key that is no UTF-8
                columns = {name: [_shown(value) for value in column] for name, column in columns.items()}
                table = pa.table(columns, schema=schema)
            writer.write_table(table)


def _shown(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
