"""The output folder of a bulk run: one file of rows for each shard, written completely or not at all.

OUT/rows/part-000000.parquet    rows of the first shard, in the order of the input
OUT/failed.jsonl                source, offset and reason of each image that could not be read
OUT/summary.json                counts, reasons, rate, the model
OUT/_run/job.json               the settings of the job; a resumed run must have the same
OUT/_run/000000.json            notes on the first shard; written last, so it marks the shard as done
"""

import hashlib
import io
import json
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitry import extras, files
from digitry.bulk.entry import Shard
from digitry.errors import DataError, UsageError
from digitry.workers.pool import Rows

FORMATS = ("parquet", "jsonl")
ROW_GROUP_BYTES = 4 << 20
"""Bytes of JSON in one Parquet row group; limits the memory for pages with many digits."""


@dataclass(frozen=True, slots=True)
class Written:
    """The rows of one shard, ready to be saved.

    Attributes:
        number: number of the shard.
        plan: digest of the shard.
        content: the bytes of the file.
        rows: number of rows.
        rejected: number of images that were read, but rejected.
        failures: (source, offset, reason) of each image that could not be read.
    """

    number: int
    plan: str
    content: bytes
    rows: int
    rejected: int
    failures: tuple[tuple[str, int | None, str], ...]


class Table:
    """The file of one shard, built row by row.

    Args:
        format: `parquet` or `jsonl`.
        forms: whether the rows are those of forms.
    """

    def __init__(self, format: str, *, forms: bool = False) -> None:
        self._format = format
        self._forms = forms
        self._stream = io.BytesIO()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._writer: Any = None

    def add(self, lines: Sequence[bytes]) -> None:
        """Add rows, each a JSON object."""
        if self._format == "jsonl":
            self._stream.writelines(line + b"\n" for line in lines)
            return
        for line in lines:
            self._waiting.append(line)
            self._bytes += len(line)
            if self._bytes >= ROW_GROUP_BYTES:
                self._flush()

    def finish(self) -> bytes:
        """Return the bytes of the file."""
        if self._format == "parquet":
            self._flush()
            if self._writer is not None:
                self._writer.close()
        return self._stream.getvalue()

    def _flush(self) -> None:
        if not self._waiting:
            return
        import pyarrow.json as pj
        import pyarrow.parquet as pq

        schema = _schema(forms=self._forms)
        text = b"\n".join(self._waiting)
        table = pj.read_json(
            io.BytesIO(text),
            pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._stream, schema, compression="zstd")
        self._writer.write_table(table.select(schema.names))
        self._waiting, self._bytes = [], 0


def require(format: str) -> None:
    """Check that a format can be written.

    Raises:
        UsageError: the format is not known.
        UnavailableError: its package is missing.
    """
    if format not in FORMATS:
        raise UsageError(f"{format!r} is not a format", remedy=f"choose from: {', '.join(FORMATS)}")
    if format == "parquet":
        otherwise = ", or write --format jsonl"
        extras.require("cluster", "writing Parquet needs", "pyarrow", otherwise=otherwise)


def _schema(*, forms: bool) -> Any:
    import pyarrow as pa

    box = pa.list_(pa.int32())
    line = [("text", pa.string()), ("confidence", pa.float64()), ("box", box)]
    # Words and marks have the same fields: what a line has, and the line that they stand in.
    part = pa.struct([*line, ("line", pa.int32())])
    digit = pa.struct(
        [
            ("value", pa.int8()),
            ("confidence", pa.float64()),
            ("box", box),
            ("line", pa.int32()),
            ("alternatives", pa.list_(pa.list_(pa.float64()))),
            ("reason", pa.string()),
        ]
    )
    field = pa.struct(
        [
            ("name", pa.string()),
            ("text", pa.string()),
            ("confidence", pa.float64()),
            ("rejected", pa.bool_()),
            ("reason", pa.string()),
            ("corners", pa.list_(box)),
            ("lines", pa.list_(pa.int32())),
        ]
    )
    of_form = [
        ("template", pa.string()),
        ("aligned", pa.float64()),
        ("fields", pa.list_(field)),
    ]
    return pa.schema(
        [
            ("source", pa.string()),
            ("offset", pa.int64()),
            ("status", pa.string()),
            ("version", pa.int32()),
            ("text", pa.string()),
            ("confidence", pa.float64()),
            ("rejected", pa.bool_()),
            ("reason", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("inverted", pa.bool_()),
            ("turned", pa.int16()),
            ("lines", pa.list_(pa.struct(line))),
            ("words", pa.list_(part)),
            ("digits", pa.list_(digit)),
            ("marks", pa.list_(part)),
            ("model", pa.string()),
            *(of_form if forms else ()),
        ]
    )


class Output:
    """The output folder of a run.

    Args:
        folder: created if it does not exist.
        format: `parquet` or `jsonl`.
        job: the settings that the rows depend on.
    """

    def __init__(self, folder: Path, format: str, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self._format = format
        self._job = dict(job)
        self._rows, self._notes = folder / "rows", folder / "_run"
        self._total = 0

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Start or resume the run, with the folder locked.

        Raises:
            UsageError: the folder holds something else, another job, or a run while `resume` is False.
            DigitryError: the folder cannot be written.
        """
        marker = self._notes / "job.json"
        if marker.exists():
            self._check_same(marker, resume)
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise UsageError("is not empty", where=self.folder, remedy="choose an empty folder")
        else:
            files.write_json(marker, self._job)
        with ExitStack() as stack:
            try:
                stack.enter_context(files.alone(self._notes / "lock", seconds=0))
            except files.InUseError as error:
                raise UsageError(
                    "another run is writing here", where=self.folder, remedy="wait until it ends"
                ) from error
            self._clear_temporaries()
            yield

    def _check_same(self, marker: Path, resume: bool) -> None:
        if not resume:
            raise UsageError(
                "already holds a run",
                where=self.folder,
                remedy="add --resume to continue it, or choose another folder",
            )
        try:
            before = json.loads(files.read_bytes(marker, 16 << 20))
        except ValueError as error:
            raise DataError("is damaged", where=marker, remedy="choose another folder") from error
        differing = sorted(
            key for key in {*before, *self._job} if before.get(key) != self._job.get(key)
        )
        if differing:
            raise UsageError(
                f"holds a run with other settings (different: {', '.join(differing)})",
                where=self.folder,
                remedy="use the same settings, or choose another folder",
            )

    def _clear_temporaries(self) -> None:
        # A killed run may leave temporary files; the pattern is that of their names in `files`.
        for folder in (self.folder, self._rows, self._notes):
            for path in folder.glob(".*-????????????.*"):
                with suppress(OSError):
                    path.unlink()

    def is_done(self, shard: Shard) -> bool:
        """Return whether the rows of a shard are already saved."""
        self._total = max(self._total, shard.number + 1)
        notes = self._read_notes(shard.number)
        if notes is None or notes.get("plan") != shard.digest:
            return False
        try:
            return bool(self._part(shard.number).stat().st_size == notes["bytes"])
        except OSError:
            return False

    def save(self, written: Written) -> None:
        """Save the rows of a shard: first the file, then the notes that mark it as done."""
        files.write_bytes(self._part(written.number), written.content)
        notes = {
            "plan": written.plan,
            "rows": written.rows,
            "rejected": written.rejected,
            "bytes": len(written.content),
            "sha256": hashlib.sha256(written.content).hexdigest(),
            "failures": written.failures,
        }
        files.write_json(self._notes / f"{written.number:06d}.json", notes)

    def finish(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the list of failures and the summary from the notes of all shards; return the summary.

        Args:
            facts: additional members of the summary.
        """
        self._clear_obsolete()
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        whole = hashlib.sha256()
        with (
            files.replacing(self.folder / "failed.jsonl") as temporary,
            temporary.open("wb") as out,
        ):
            for number in range(self._total):
                notes = self._read_notes(number)
                if notes is None:
                    raise DataError(
                        "a shard is missing or damaged",
                        where=self._part(number),
                        remedy="run again with --resume",
                    )
                counts["images"] += notes["rows"]
                counts["rejected"] += notes["rejected"]
                whole.update(bytes.fromhex(notes["sha256"]))
                for source, offset, reason in notes["failures"]:
                    counts["failed"] += 1
                    # Text in parentheses is about one image, not about the kind of failure.
                    reasons[re.sub(r" \(.*\)", "", reason)] += 1
                    row = {"source": source, "offset": offset, "reason": reason}
                    text = json.dumps(row, ensure_ascii=False) + "\n"
                    out.write(text.encode(errors="backslashreplace"))
        summary = {
            "images": counts["images"],
            "read": counts["images"] - counts["failed"],
            "rejected": counts["rejected"],
            "failed": counts["failed"],
            "failed_by_reason": dict(sorted(reasons.items())),
            "shards": self._total,
            "format": self._format,
            "rows_sha256": whole.hexdigest(),
            **facts,
        }
        files.write_json(self.folder / "summary.json", summary)
        return summary

    def _clear_obsolete(self) -> None:
        # If the input has become shorter since the run began, the last shards are obsolete.
        for path in self._rows.glob(f"part-*.{self._format}"):
            number = path.stem.removeprefix("part-")
            if number.isdigit() and int(number) >= self._total:
                path.unlink()

    def _part(self, number: int) -> Path:
        return self._rows / f"part-{number:06d}.{self._format}"

    def _read_notes(self, number: int) -> dict[str, Any] | None:
        try:
            notes = json.loads(files.read_bytes(self._notes / f"{number:06d}.json", 256 << 20))
        except (OSError, ValueError):
            return None
        return notes if isinstance(notes, dict) else None


def written(shard: Shard, format: str, batches: Iterator[Rows], *, forms: bool = False) -> Written:
    """Return the rows of a shard as a file.

    Args:
        shard: the shard.
        format: `parquet` or `jsonl`.
        batches: rows of its images, in order.
        forms: whether the rows are those of forms.
    """
    table = Table(format, forms=forms)
    count = rejected = 0
    failures: list[tuple[str, int | None, str]] = []
    for rows in batches:
        table.add(rows.lines)
        count += len(rows.lines)
        rejected += rows.rejected
        for index, reason in rows.failed:
            row = json.loads(rows.lines[index])
            failures.append((row["source"], row["offset"], reason))
    return Written(shard.number, shard.digest, table.finish(), count, rejected, tuple(failures))


def environment() -> dict[str, str]:
    """Return the versions of digitry and Python, for the summary."""
    import digitry

    return {"digitry": digitry.__version__, "python": platform.python_version()}
