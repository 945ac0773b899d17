"""Many images: from folders, archives, tables and object stores to rows, on one machine or a cluster.

The input is cut into shards (`sources.plan`); a worker reads one shard after another; each becomes one
file (`shards.Output`). Both engines do just that with the same code, so the same input gives the same
files, whatever the engine, the number of workers, and the interruptions.
"""

import logging
import os
import pickle
import queue
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from digitry.errors import DigitryError, UnavailableError, UsageError
from digitry.serving import shards, sources
from digitry.serving.process import Item
from digitry.serving.shards import Output, Written
from digitry.serving.sources import Entry, Shard
from digitry.serving.workers import BATCH, Rows, WorkerPool, failed_line

if TYPE_CHECKING:
    from digitry.reading.reader import Layout

T = TypeVar("T")

ENGINES = ("local", "ray")
SHARD_ROWS = 2048
WALL_S, CPU_S = 20.0, 10.0
"""For one image, or some small ones. Wide, since a busy machine must not change the rows."""

REQUEST_BYTES = 1 << 20
WAVE_SHARDS, WAVE_BYTES = 4096, 64 << 20
"""Shards that are handed to the cluster at once, and the bytes of their descriptions."""


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
        shards.require(self.format)


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


def run(job: BulkJob, *, progress: Callable[[Progress], None] | None = None) -> BulkReport:
    """Read many images.

    Args:
        job: what, and how.
        progress: is told how far the run is after each shard, from the calling thread.

    Raises:
        UsageError: an input is not there, or the folder holds another run.
        ModelError: the model is missing, damaged, or not ours.
        UnavailableError: a package is missing that the job needs.
        DigitryError: the folder cannot be written.
    """
    from digitry import artifact

    if os.name != "posix":
        raise UnavailableError(
            "bulk reading needs Linux or macOS", remedy="use WSL, or `digitry read`"
        )
    model = artifact.load(job.model)
    if model.version is not None:
        # A name, as it stands now: all of a job is read with one version.
        job = replace(job, model=model.reference)
    sources.check(job.inputs)
    output = Output(
        Path(job.out),
        job.format,
        {
            "inputs": list(job.inputs),
            "model": model.fingerprint,
            "layout": job.layout,
            "max_error": job.max_error,
            "column": job.column,
            "format": job.format,
            "shard_rows": job.shard_rows,
        },
    )
    started = time.monotonic()
    images = failed = 0
    with output.opened(resume=job.resume):
        todo = (
            shard
            for shard in sources.plan(job.inputs, job.shard_rows, job.column)
            if not output.is_done(shard)
        )
        engine = _locally if job.engine == "local" else _on_ray
        for done, written in engine(job, todo, model.onnx):
            output.save(written)
            images += written.rows
            failed += len(written.failures)
            if progress is not None:
                progress(Progress(images, failed, time.monotonic() - started, done))
        seconds = time.monotonic() - started
        summary = output.finish(
            {
                "model": {"name": model.metadata.name, "sha256": model.sha256},
                "layout": job.layout,
                "engine": job.engine,
                "images_now": images,
                "seconds": round(seconds, 3),
                "images_per_second": round(images / max(seconds, 1e-6), 1),
                **shards.environment(),
            }
        )
    return BulkReport(
        out=Path(job.out),
        **{
            key: summary[key]
            for key in (
                "images",
                "rejected",
                "failed",
                "failed_by_reason",
                "images_now",
                "seconds",
                "images_per_second",
            )
        },
    )


def read_shard(shard: Shard, pool: WorkerPool, format: str) -> Written:
    """Read the images of one shard; the same shard gives the same bytes anywhere."""
    model = pool.artifact.metadata.name

    def batches() -> Iterator[tuple[Sequence[str], Rows]]:
        for batch in _ahead(_batches(sources.entries(shard))):
            yield [entry.name for entry in batch], _rows(batch, pool, model)

    return shards.written(shard, format, batches())


def _rows(batch: list[Entry], pool: WorkerPool, model: str) -> Rows:
    """Read what can be read, and put the errors of the others in their places."""
    items = [
        Item(entry.name, entry.content, entry.offset)
        for entry in batch
        if entry.content is not None
    ]
    read = pool.rows(items)
    if len(items) == len(batch):
        return read
    lines = iter(read.lines)
    reasons = dict(read.failed)
    merged: list[bytes] = []
    failed: list[tuple[int, str]] = []
    position = 0
    for index, entry in enumerate(batch):
        if entry.content is None:
            reason = entry.error or "is missing"
            merged.append(failed_line(entry.name, entry.offset, reason, model))
            failed.append((index, reason))
            continue
        merged.append(next(lines))
        if position in reasons:
            failed.append((index, reasons[position]))
        position += 1
    return Rows(tuple(merged), read.rejected, tuple(failed))


def _batches(found: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in found:
        batch.append(entry)
        size += len(entry.content or b"")
        if len(batch) == BATCH or size >= REQUEST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ahead(values: Iterator[T]) -> Iterator[T]:
    """Take the next value while the last one is being worked on."""
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(maxsize=1)
    gone = threading.Event()

    def put(value: tuple[T | None, BaseException | None, bool]) -> bool:
        while not gone.is_set():
            try:
                ready.put(value, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def take() -> None:
        try:
            for value in values:
                if not put((value, None, False)):
                    return
        except BaseException as error:  # noqa: BLE001 (it is raised again where it is waited for)
            put((None, error, True))
            return
        put((None, None, True))

    threading.Thread(target=take, daemon=True).start()
    try:
        while True:
            value, error, ended = ready.get()
            if error is not None:
                raise error
            if ended:
                return
            yield value  # type: ignore[misc]
    finally:
        gone.set()


# --- on this machine -------------------------------------------------------------------------------


def _locally(
    job: BulkJob, todo: Iterator[Shard], model: bytes
) -> Iterator[tuple[float | None, Written]]:
    """Give shards as they are read, by one thread and one process for each worker."""
    workers = job.workers or os.cpu_count() or 1
    pool = WorkerPool(
        job.model, job.layout, workers, max_error=job.max_error, wall_s=job.wall_s, cpu_s=job.cpu_s
    )
    ready: queue.Queue[tuple[float | None, Written] | BaseException | None] = queue.Queue(workers)
    turn = threading.Lock()
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                with turn:
                    shard = next(todo, None)
                if shard is None:
                    break
                ready.put((shard.done, read_shard(shard, pool, job.format)))
        except BaseException as error:  # noqa: BLE001 (it is raised again in the calling thread)
            ready.put(error)
            return
        ready.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        running = workers
        while running:
            result = ready.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:
        # Whatever ended this, no thread and no process stays behind: what waits for a worker or for
        # room to put its shard is let go.
        stopped.set()
        pool.close()
        while any(thread.is_alive() for thread in threads):
            with suppress(queue.Empty):
                ready.get(timeout=0.05)


# --- on a cluster ----------------------------------------------------------------------------------


def _on_ray(
    job: BulkJob, todo: Iterator[Shard], model: bytes
) -> Iterator[tuple[float | None, Written]]:
    """Give shards as the actors of Ray Data read them; rows travel back and are written here.

    Sources: docs.ray.io/en/latest/data/performance-tips.html (block and batch sizes), and
    docs.ray.io/en/latest/ray-security/token-auth.html.
    """
    if job.address is None and "ray" not in sys.modules:
        # Ray reads these once, when it is imported. The token is known to this process tree alone.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UnavailableError(
            "a cluster needs the extra `cluster`", remedy="pip install 'digitry[cluster]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, job)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # Its reports of plans and progress are not ours to print.
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        workers = job.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        for wave in _waves(todo):
            # One shard in a block and in a batch: nothing of what a worker holds grows with the input.
            dataset = ray.data.from_items(
                [{"shard": content} for content in wave], override_num_blocks=len(wave)
            ).map_batches(
                _ShardReader,
                batch_size=1,
                batch_format="numpy",
                # Actors restart and their tasks are tried again without end, as Ray Data has it: a
                # shard that was on a lost node is read again on another, and gives the same rows.
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(wave))),
                num_cpus=1,
                fn_constructor_args=(model, _settings(job)),
            )
            for row in dataset.iter_rows():
                yield pickle.loads(row["written"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, DigitryError):
            raise cause from error
        raise DigitryError(
            f"the cluster gave up ({type(error).__name__}: {str(error).splitlines()[0][:120]})",
            remedy="look at its logs, then run again with --resume",
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, job: BulkJob) -> None:
    """Join the cluster, or start one on this machine that nobody else can use."""
    local: dict[str, Any] = {}
    if job.address is None:
        local = {"num_cpus": job.workers, "include_dashboard": False}
    try:
        ray.init(
            address=job.address or "local",
            log_to_driver=False,
            logging_level="error",
            configure_logging=False,
            **local,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"the cluster cannot be reached ({' '.join(str(error).split())[:120]})",
            where=job.address,
            remedy="check the address, and RAY_AUTH_TOKEN if it wants a token",
        ) from error


def _settings(job: BulkJob) -> dict[str, Any]:
    return {
        "format": job.format,
        "layout": job.layout,
        "max_error": job.max_error,
        "wall_s": job.wall_s,
        "cpu_s": job.cpu_s,
    }


def _waves(todo: Iterator[Shard]) -> Iterator[list[bytes]]:
    wave: list[bytes] = []
    size = 0
    for shard in todo:
        # Pickled by us, and opened by our own actors alone.
        wave.append(pickle.dumps(shard))
        size += len(wave[-1])
        if len(wave) == WAVE_SHARDS or size >= WAVE_BYTES:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave


class _ShardReader:
    """An actor: one killable process with the session, and this one, which fetches and packs.

    Args:
        model: the bytes of the model file, so that no node needs to have it.
        settings: of the job.
    """

    def __init__(self, model: bytes, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="digitry-")
        path = Path(self._folder.name) / "model.onnx"
        path.write_bytes(model)
        self._pool = WorkerPool(
            path,
            settings["layout"],
            1,
            max_error=settings["max_error"],
            wall_s=settings["wall_s"],
            cpu_s=settings["cpu_s"],
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        read = []
        for content in batch["shard"]:
            shard: Shard = pickle.loads(content)
            written = read_shard(shard, self._pool, self._settings["format"])
            read.append(pickle.dumps((shard.done, written)))
        return {"written": read}
