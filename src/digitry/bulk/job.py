"""A bulk job, its progress, and its report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitry.bulk import output
from digitry.errors import UsageError
from digitry.reading.region import Region
from digitry.reading.template import Template

if TYPE_CHECKING:
    from digitry.reading.recognise import Layout


ENGINES = ("local", "ray")
SHARD_ROWS = 2048
WALL_S, CPU_S = 20.0, 10.0
"""Limits for one image, or a batch of small ones. Generous: a busy machine must not change the rows."""


@dataclass(frozen=True, kw_only=True)
class BulkJob:
    """The settings of a bulk job; checked when built.

    Attributes:
        inputs: files, folders, globs, archives, tables, lists of paths, or URLs of them.
        out: folder for the output.
        format: `parquet` or `jsonl`.
        engine: `local` = processes on this machine, `ray` = a Ray cluster.
        address: address of the cluster: `host:6379`, `ray://host:10001`; None = start one here.
        workers: number of processes; None = one per processor.
        resume: whether to continue a run in `out`; if there is none, a new one starts.
        model: the name of a shipped model, a .onnx file, or a run folder.
        layout: `auto`, `single`, `line` or `page`.
        max_error: see `Reader`.
        template: what stands where on the images, which are forms; None = they are none.
        region: the part of each image that is read; see `Reader`.
        column: column of tables with the images; None = found by its name and type.
        shard_rows: images in one output file, at most; a resumed run reads unfinished files again.
        wall_s: wall-clock seconds that an image may take.
        cpu_s: seconds of processor time that an image may take.
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
    template: Template | None = None
    region: str | None = None
    column: str | None = None
    shard_rows: int = SHARD_ROWS
    wall_s: float = WALL_S
    cpu_s: float = CPU_S

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input is given", remedy="name files, folders or archives")
        if self.engine not in ENGINES:
            raise UsageError(
                f"{self.engine!r} is not an engine", remedy=f"choose from: {', '.join(ENGINES)}"
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(
                f"{self.workers} is not a valid number of workers", remedy="use 1 or more"
            )
        if not 1 <= self.shard_rows <= 1_000_000:
            raise UsageError(
                f"{self.shard_rows} is not a valid number of rows for one file",
                remedy="use 1 to 1,000,000",
            )
        if self.template is not None and self.layout != "auto":
            raise UsageError(
                "a template and a layout are given",
                remedy="write the layout of each field into the template",
            )
        if self.region is not None:
            Region(self.region)
            if self.template is not None:
                raise UsageError(
                    "a template and a region are given",
                    remedy="write each place as a field into the template",
                )
        if self.address is not None and self.engine != "ray":
            raise UsageError("--address needs --engine ray", remedy="add --engine ray")
        output.require(self.format)


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        images: rows that this run has saved.
        failed: how many of them could not be read.
        seconds: time since the run began to read.
        done: share of the input that is finished, in [0, 1]; None if not known.
    """

    images: int
    failed: int
    seconds: float
    done: float | None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / max(self.seconds, 1e-6)


@dataclass(frozen=True)
class BulkReport:
    """The result of a run.

    Attributes:
        out: folder of the output.
        images, rejected, failed: counts of the whole output, including earlier runs.
        failed_by_reason: reason -> number of images that failed.
        not_read: ending -> number of files in folders and archives that are no images.
        images_now: images that this run has read.
        seconds: duration of this run.
        images_per_second: rate of this run.
    """

    out: Path
    images: int
    rejected: int
    failed: int
    failed_by_reason: dict[str, int]
    not_read: dict[str, int]
    images_now: int
    seconds: float
    images_per_second: float
