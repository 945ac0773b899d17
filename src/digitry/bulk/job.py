"""What a bulk job is, how it goes on, and what it came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitry.bulk import output
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.reading.reader import Layout


ENGINES = ("local", "ray")
SHARD_ROWS = 2048
WALL_S, CPU_S = 20.0, 10.0
"""For one image, or some small ones. Wide, since a busy machine must not change the rows."""


@dataclass(frozen=True, kw_only=True)
class BulkJob:
    """What is to be read, and how.

    Attributes:
        inputs: files, folders, globs, archives, tables, lists of paths, or URLs of them.
        out: folder of the rows.
        format: `parquet` or `jsonl`.
        engine: `local`, processes on this machine, or `ray`, a cluster.
        address: of the cluster: `host:6379`, `ray://host:10001`; None = one on this machine.
        workers: processes; None = one for each processor.
        resume: go on with what lies in `out`; where nothing lies, begin.
        model: the name of a shipped model, a .onnx file, or a run folder.
        layout: `auto`, `single`, `line` or `page`.
        max_error: as for `Reader`.
        column: of tables, the one with the images; None = found by its name and type.
        shard_rows: images in one file of rows, at most; what a killed run has to do again.
        wall_s, cpu_s: seconds on the clock and of computing that an image may take.
    """

    inputs: Sequence[str]
    out: Path
    format: str = "parquet"
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    resume: bool = False
    model: str = "reader"
    layout: "Layout" = "auto"
    max_error: float | None = None
    column: str | None = None
    shard_rows: int = SHARD_ROWS
    wall_s: float = WALL_S
    cpu_s: float = CPU_S

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("there is nothing to read", remedy="name files, folders or archives")
        if self.engine not in ENGINES:
            raise UsageError(
                f"no engine is called {self.engine!r}", remedy=f"choose: {', '.join(ENGINES)}"
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers read nothing", remedy="give 1 or more")
        if not 1 <= self.shard_rows <= 1_000_000:
            raise UsageError(
                f"{self.shard_rows} rows in a shard make no sense", remedy="give 1 to 1,000,000"
            )
        if self.address is not None and self.engine != "ray":
            raise UsageError("an address is of a cluster", remedy="add --engine ray")
        output.require(self.format)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        images: rows that this run has saved.
        failed: of them, inputs that could not be read.
        seconds: since it began to read.
        done: share of the input that is behind it, or None where it is not known.
    """

    images: int
    failed: int
    seconds: float
    done: float | None

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / max(self.seconds, 1e-6)


@dataclass(frozen=True)
class BulkReport:
    """How a run ended.

    Attributes:
        out: the folder of its rows.
        images, rejected, failed: counts of the whole result, of this run and of those before it.
        failed_by_reason: how many inputs failed for what.
        images_now: those that this very run has read.
        seconds: it took.
        images_per_second: of this run.
    """

    out: Path
    images: int
    rejected: int
    failed: int
    failed_by_reason: dict[str, int]
    images_now: int
    seconds: float
    images_per_second: float
