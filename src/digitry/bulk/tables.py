"""Tables of images, in Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from digitry import extras
from digitry.bulk.archives import MAX_MEMBER_BYTES
from digitry.bulk.entry import Entry, Shard, kind_of, printable, refused
from digitry.bulk.sources import opened
from digitry.errors import UnavailableError

IMAGE_COLUMNS = ("image", "img", "bytes", "content", "image_bytes", "data", "png", "jpeg", "jpg")
"""Names of columns that are taken for the images if several hold bytes, the best first."""


@contextmanager
def _table(path: str) -> Iterator[Any]:
    extras.require("cluster", "reading Parquet needs", "pyarrow", where=path)
    import pyarrow.parquet as pq

    # Without `buffer_size` whole row groups are read, and one may be the whole file.
    with opened(path) as stream:
        yield pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)


def _image_column(schema: Any, wanted: str | None) -> str | None:
    """Return the column with the images: binary, or a struct with `bytes` as in Hugging Face data."""
    import pyarrow as pa

    def holds(field: Any) -> bool:
        kind = field.type
        if pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            kind = kind.field(place).type if place >= 0 else pa.null()
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if holds(field)]
    if wanted is not None:
        return wanted if wanted in fitting else None
    named = [name for name in IMAGE_COLUMNS if name in fitting]
    return named[0] if named else fitting[0] if len(fitting) == 1 else None


def shards(path: str, rows: int, column: str | None, numbers: Iterator[int]) -> Iterator[Shard]:
    """Yield the shards of a table; none spans two of its row groups."""
    try:
        with _table(path) as table:
            facts = table.metadata
            found = _image_column(table.schema_arrow, column)
            total = max(int(facts.num_rows), 1)
            sizes = [facts.row_group(index).num_rows for index in range(facts.num_row_groups)]
    except UnavailableError:
        raise
    except Exception as error:  # noqa: BLE001
        # For a damaged file Arrow raises its own errors, OSError, and others from its C++ code.
        yield refused(path, 0, f"is not a readable table ({kind_of(error)})", numbers)
        return
    if found is None:
        yield refused(path, 0, "has no clear column of image bytes; name it with --column", numbers)
        return
    first = 0
    for size in sizes:
        for start in range(first, first + size, rows):
            count = min(rows, first + size - start)
            yield Shard(
                next(numbers), "table", path, start, count, column=found,
                done=(start + count) / total,
            )  # fmt: skip
        first += size


def rows_of(shard: Shard) -> Iterator[Entry]:
    """Yield the images of a shard of a table, with errors in their places."""
    name, row = printable(shard.container), shard.start
    end = shard.start + shard.count
    error = "was changed while it was read"
    try:
        for content in _contents(shard):
            where = f"{name}::{row}"
            if content is None:
                yield Entry(where, row, error="has no image in this row")
            elif len(content) > MAX_MEMBER_BYTES:
                yield Entry(where, row, error=f"is larger than {MAX_MEMBER_BYTES >> 20} MiB")
            else:
                yield Entry(where, row, content)
            row += 1
    except UnavailableError:
        raise
    except Exception as raised:  # noqa: BLE001
        # As above: a damaged file.
        error = f"the rest cannot be read ({kind_of(raised)})"
    while row < end:
        yield Entry(f"{name}::{row}", row, error=error)
        row += 1


def _contents(shard: Shard) -> Iterator[bytes | None]:
    end = shard.start + shard.count
    with _table(shard.container) as table:
        group, first = 0, 0
        while first + table.metadata.row_group(group).num_rows <= shard.start:
            first += table.metadata.row_group(group).num_rows
            group += 1
        for batch in table.iter_batches(256, row_groups=[group], columns=[shard.column]):
            begin, first = first, first + len(batch)
            if first <= shard.start:
                continue
            from_, to = max(shard.start - begin, 0), min(end - begin, len(batch))
            for value in batch.column(0).slice(from_, to - from_):
                content = value.as_py()
                yield content["bytes"] if isinstance(content, dict) else content
            if first >= end:
                return
